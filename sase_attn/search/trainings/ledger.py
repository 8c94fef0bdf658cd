"""`Ledger`: the trainings of a search as an Optuna study: which worker runs which, and how each ended.

A worker claims a training by a new running trial. A trial ends in one of three ways. It is complete, with accuracy and
loss. It has failed, with the reason as its attribute `error`. Or it was given up, and another trial may claim the
training. Optuna ends a trial only once: if two workers try, the second is told that it had ended.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sase_attn.genotype import EDGES, Genotype
from sase_attn.records import record_from
from sase_attn.search.space import SearchSpace
from sase_attn.search.trained import Trained, Training
from sase_attn.search.trainings.storage import Storage
from sase_attn.training.checkpoint import check_same
from sase_attn.training.data import DataIdentity
from sase_attn.training.recipes import Recipe

SEED, WORKER, LEASE, BEAT, FOLDER, ERROR, GIVEN_UP = "seed", "worker", "lease", "beat", "folder", "error", "given_up"
"""User attributes of a trial."""
OVER = "its lease ran out"
"""The reason for giving up a trial whose worker may still be alive."""
SECOND = "another worker was first"


class Ledger:
    """The trainings of one search.

    Args:
        folder: the folder of the search, whose name is that of the study.
        storage: Optuna's storage.
        space: the space of the genotypes.

    Raises:
        ValueError: the study has another space, or as `Storage.use`.
    """

    def __init__(self, folder: Path, storage: Storage, space: SearchSpace) -> None:
        from optuna.trial import TrialState

        self._folder, self._storage, self._space, self._state = folder, storage, space, TrialState
        self._study = self._open(folder.resolve().name)

        def check_space(saved: Any) -> None:
            if saved != space.to_json():
                raise ValueError(f"the search in {folder} has another space: name another folder for a new one")

        self._once("space", space.to_json(), check_space)

    def check_same(self, data: DataIdentity, recipe: Recipe) -> None:
        """Record the data and the common recipe of all trainings. Raises ValueError if the study has others."""

        def check_data(saved: Any) -> None:
            if difference := data.difference(record_from(DataIdentity, saved)):
                raise ValueError(
                    f"the search in {self._folder} has other data: {difference}; name another folder for a new one"
                )

        self._once("data", asdict(data), check_data)
        self._once("recipe", recipe.to_json(), lambda saved: check_same(recipe, Recipe.from_json(saved)))

    def trials(self) -> list[Any]:
        """All trials that claim a training, by number."""
        found = self._storage.use("get_all_trials", self._study, deepcopy=False)
        return [trial for trial in found if trial.params.keys() >= set(EDGES) and SEED in trial.user_attrs]

    def running(self, trials: Iterable[Any]) -> list[Any]:
        """The trials that are running."""
        return [trial for trial in trials if trial.state == self._state.RUNNING]

    def training(self, trial: Any) -> Training:
        """The training of a trial."""
        edges = {edge: trial.params[edge] for edge in EDGES}
        return Training(Genotype(**edges, residual=self._space.residual), trial.user_attrs[SEED])

    def rows(self, trials: Iterable[Any]) -> list[Trained]:
        """The trainings that have ended, in the order in which they were first claimed."""
        found: dict[Training, Trained | None] = {}
        for trial in trials:
            row, training = None, self.training(trial)
            if trial.state == self._state.COMPLETE:
                row = Trained(training, *trial.values)
            elif trial.state == self._state.FAIL and ERROR in trial.user_attrs:
                row = Trained.failure(training)
            found[training] = found.get(training) or row
        return [row for row in found.values() if row is not None]

    def claim(self, training: Training, **attributes: Any) -> int | None:
        """The id of a new trial for a training; None if another worker was first."""
        from optuna.distributions import CategoricalDistribution
        from optuna.trial import create_trial

        template = create_trial(
            state=self._state.RUNNING,
            params={edge: getattr(training.genotype, edge) for edge in EDGES},
            distributions={edge: CategoricalDistribution(names) for edge, names in self._space.ops.items()},
            user_attrs={SEED: training.seed, BEAT: 0, **attributes},
        )
        new: int = self._storage.use("create_new_trial", self._study, template)
        for trial in self.trials():
            if trial._trial_id == new:
                break  # of two trials of one training, the one with the lower number was first
            given_up = trial.state == self._state.FAIL and ERROR not in trial.user_attrs
            if self.training(trial) == training and not given_up:
                self.give_up(new, SECOND)
                return None
        return new

    def give_up(self, trial: int, why: str) -> bool:
        """End a trial so that another one may claim its training. Returns whether it had not ended before."""
        return self._end(trial, self._state.FAIL, {GIVEN_UP: why})

    def fail(self, trial: int, error: str) -> bool:
        """End a trial whose training failed. Returns whether it had not ended before."""
        return self._end(trial, self._state.FAIL, {ERROR: error})

    def finish(self, trial: int, top1: float, loss: float) -> bool:
        """End a trial with the result of its training. Returns whether it had not ended before."""
        if not math.isfinite(loss):
            return self.fail(trial, f"the loss on the test images is {loss}")
        return self._end(trial, self._state.COMPLETE, {}, (top1, loss))

    def note(self, trial: int, **attributes: Any) -> bool:
        """Set attributes of a trial. Returns whether it is still running."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            for name, value in attributes.items():
                self._storage.use("set_trial_user_attr", trial, name, value)
        except UpdateFinishedTrialError:
            return False
        return True

    def _end(self, trial: int, state: Any, attributes: Mapping[str, Any], values: Any = None) -> bool:
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            return self.note(trial, **attributes) and self._storage.use("set_trial_state_values", trial, state, values)
        except UpdateFinishedTrialError:
            return False

    def _once(self, name: str, value: Any, check: Callable[[Any], object]) -> None:
        """Set an attribute of the study if it is not set; otherwise check its value."""
        attributes: Mapping[str, Any] = self._storage.use("get_study_user_attrs", self._study)
        if name in attributes:
            check(attributes[name])
        else:
            self._storage.use("set_study_user_attr", self._study, name, value)

    def _open(self, name: str) -> int:
        """The id of the study in the storage, which is created if it does not exist."""
        from optuna.exceptions import DuplicatedStudyError
        from optuna.study import StudyDirection

        directions = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)
        try:
            return self._storage.use("create_new_study", directions, name)
        except DuplicatedStudyError:
            return self._storage.use("get_study_id_from_name", name)
