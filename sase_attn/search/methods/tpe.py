"""`TPE`: a search by Optuna's tree-structured Parzen estimator (TPE), which starts with balanced genotypes."""

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice
from typing import Any

from sase_attn.genotype import EDGES, Genotype
from sase_attn.search.methods.method import Method
from sase_attn.search.space import SearchSpace
from sase_attn.search.trained import Trained, Training
from sase_attn.training.data.order import hash_seed

Round = tuple[Training, ...]


class TPE(Method):
    """Trains balanced genotypes first, then rounds of genotypes that Optuna's TPE suggests, all with a common seed.

    A genotype that is suggested again is trained with a fresh seed. Optuna's study is made anew from the trainings of
    earlier rounds, so that calls share no state, except for a cache of earlier rounds.

    Args:
        space, trainings, seed: see `Method`.

    Raises:
        ValueError: a budget below 1. ImportError: optuna is not installed.
    """

    OPENING = 10
    """Number of balanced genotypes at the start, before TPE has data."""
    SIDE_BY_SIDE = 4
    """Number of trainings of a round, which workers may run in parallel."""

    def __init__(self, space: SearchSpace, trainings: int, seed: int = 0) -> None:
        super().__init__(space, trainings, seed)
        if find_spec("optuna") is None:
            raise ImportError('the method tpe needs optuna: pip install "sase-attn[search]"')
        self._asked: dict[tuple[Trained, ...], Round] = {}

    def _stage(self, rows: list[Trained]) -> Iterator[Training]:
        ended = {row.training for row in rows}
        stage: Round = tuple(Training(genotype, self.seed) for genotype in islice(self._balanced(), self.OPENING))
        known = {*stage, *self._of_other_stages(rows)}
        while ended >= {*stage}:
            stage = self._round([row for row in rows if row.training in known])
            known.update(stage)
        yield from stage

    def _round(self, rows: list[Trained]) -> Round:
        """The trainings that TPE suggests after these ones."""
        key = tuple(rows)
        if key not in self._asked:
            known = {row.training for row in rows}
            found: dict[Training, None] = {}
            for genotype in self._suggested(rows):
                number = 0
                training = Training(genotype, self.seed)
                while training in known or training in found:
                    training = Training(genotype, self._fresh_seed(number))
                    number += 1
                found[training] = None
            self._asked[key] = tuple(found)
        return self._asked[key]

    def _suggested(self, rows: list[Trained]) -> list[Genotype]:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(
            seed=hash_seed(self.seed, len(rows)) % 2**32, n_startup_trials=0, constant_liar=True
        )
        study = optuna.create_study(sampler=sampler, direction="maximize")
        choices: dict[str, Any] = {
            edge: optuna.distributions.CategoricalDistribution(names) for edge, names in self.space.ops.items()
        }
        seeds = self._model(rows).seeds
        for row in rows:
            genotype = row.training.genotype
            study.add_trial(
                optuna.trial.create_trial(
                    params={edge: getattr(genotype, edge) for edge in EDGES},
                    distributions=choices,
                    value=None if row.failed else row.top1 - seeds[row.training.seed],
                    state=optuna.trial.TrialState.FAIL if row.failed else optuna.trial.TrialState.COMPLETE,
                )
            )
        trials = [study.ask(choices) for _ in range(self.SIDE_BY_SIDE)]
        return [Genotype(**trial.params, residual=self.space.residual) for trial in trials]
