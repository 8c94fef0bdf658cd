"""A search without a super-network: train genotypes one by one, chosen by Optuna, by any number of workers.

Start it as often as you like on one folder, on one machine or on machines that share it: each is a worker. The study is
a journal file in that folder. A worker that is killed loses nothing: the next one that is free resumes its training
from the last checkpoint. A training that fails counts as one of the trials, and the next one begins. Genotypes are
judged by the test images of the data, so quote another accuracy.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from sase_attn.errors import in_words, unknown_name
from sase_attn.genotype import EDGES, Genotype
from sase_attn.lock import Lock
from sase_attn.records import record_from
from sase_attn.search.compare import genotype_fields, with_imports
from sase_attn.search.config import SearchConfig
from sase_attn.search.space import SearchSpace
from sase_attn.training import checkpoint
from sase_attn.training.data import DataIdentity
from sase_attn.training.recipes import Recipe
from sase_attn.training.run import check_start, train

SAMPLERS = ("tpe", "random")
REASON = "error"
"""The user attribute of a failed trial that says why."""
SAME_FAILURES = 3
"""Trials in a row that a worker lets fail in the same words (one that diverges does not count)."""


@dataclass(frozen=True)
class Trial:
    """A genotype that a sweep has trained, and its top-1 in percent."""

    number: int
    genotype: Genotype
    top1: float


def sweep(
    config: SearchConfig,
    recipe: Recipe,
    folder: str | Path,
    *,
    trials: int,
    sampler: str = "tpe",
    device: str | None = None,
    echo: Callable[[str], object] = print,
) -> list[Trial]:
    """Work on a sweep until it has so many trials, over all its workers; return those that are done, the best first.

    Args:
        config: its model, `after` and space count.
        recipe: of each training, but for the network.
        folder: of the sweep: `journal.log`, and `trial<n>/` for each training.
        trials: in all. Call again with more to go on.
        sampler: "tpe" (tree-structured Parzen estimator) or "random".
        device: of the trainings, as `train` takes it.
        echo: gets a line for each trial that this worker has trained, or whose training failed.

    Raises:
        ImportError: optuna is not installed. UnknownNameError: no such sampler.
        ValueError: the folder's sweep is damaged, has another space or other data, or trained by another recipe.
        OSError: of the disk or the data: the trial is resumed when the sweep is started again.
        Exception: what every trial would fail with, found before the first one: see `open_data` and `create_network`;
            or what three trials in a row have failed with in the same words.
    """
    if find_spec("optuna") is None:
        raise ImportError('a sweep needs optuna: pip install "sase-attn[sweep]"')
    if sampler not in SAMPLERS:
        raise unknown_name("sampler", sampler, SAMPLERS)
    folder, space = Path(folder), config.search_space()
    one = _of_trial(config, recipe, space.random(0))
    data = check_start([one], device)
    folder.mkdir(parents=True, exist_ok=True)
    asking = Lock(folder / "ask.lock")  # so that two workers do not take the same trial
    with _held(asking):
        study = _open_study(folder, space, sampler)
        _check_same_data(study, folder, data)
        _check_same_recipe(study, one)
    failures: list[str] = []
    while True:
        with _held(asking):
            taken = _abandoned_trial(study, folder) or _new_trial(study, folder, space, trials)
        if taken is None:
            break
        number, lock = taken
        try:
            genotype = Genotype(**study.trials[number].params, residual=space.residual)
            output = folder / f"trial{number}"
            resume = (output / checkpoint.NAME).exists()
            settings = _of_trial(config, recipe, genotype)
            result = train(settings, output, resume=resume, device=device, echo=lambda line: None)
        except OSError:
            raise  # not the trial's fault
        except Exception as error:
            words = in_words(error)
            _tell_failed(study, number, words)
            echo(f"trial {number} failed: {words}")
            failures.append("" if isinstance(error, FloatingPointError) else words)
            if failures[-1] and failures[-SAME_FAILURES:] == [words] * SAME_FAILURES:
                raise
        else:
            study.tell(number, result.top1)
            echo(f"trial {number}: top-1 {result.top1:.2f} %, {genotype}")
            failures.clear()
        finally:
            lock.release()
    done = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    found = [Trial(t.number, Genotype(**t.params, residual=space.residual), float(t.values[0])) for t in done]
    return sorted(found, key=lambda trial: -trial.top1)


def _of_trial(config: SearchConfig, recipe: Recipe, genotype: Genotype) -> Recipe:
    return with_imports(recipe, config).override(**genotype_fields(config, genotype))


def _tell_failed(study: Any, number: int, words: str) -> None:
    import optuna

    optuna.trial.Trial(study, study.trials[number]._trial_id).set_user_attr(REASON, words)
    study.tell(number, state=optuna.trial.TrialState.FAIL)


def _open_study(folder: Path, space: SearchSpace, sampler: str) -> Any:
    """Optuna's study in the folder, new or begun."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = folder / "journal.log"
    try:
        study = optuna.create_study(
            study_name="sweep",
            storage=JournalStorage(JournalFileBackend(str(journal), lock_obj=cast(Any, _JournalLock(folder)))),
            direction="maximize",
            load_if_exists=True,
            sampler=(optuna.samplers.TPESampler if sampler == "tpe" else optuna.samplers.RandomSampler)(),
        )
    except (OSError, MemoryError):
        raise
    except Exception as error:  # optuna has many for damaged journals
        raise ValueError(f"{journal} is no whole journal of a sweep: {in_words(error)}") from None
    if study.user_attrs.setdefault("space", space.to_json()) != space.to_json():
        raise ValueError(f"the sweep in {folder} has another space: name another folder for a new one")
    study.set_user_attr("space", space.to_json())
    return study


class _JournalLock:
    """Optuna's lock of its journal, by one that goes with a killed worker; optuna's own would stay."""

    def __init__(self, folder: Path) -> None:
        self._lock = Lock(folder / "journal.lock")

    def acquire(self) -> bool:
        """Wait for the lock, and take it."""
        return self._lock.acquire(wait=True)

    def release(self) -> None:
        """Give it back."""
        self._lock.release()


def _check_same_data(study: Any, folder: Path, data: DataIdentity) -> None:
    """Record which data a study is of, or raise ValueError if it is of others."""
    saved = record_from(DataIdentity, study.user_attrs.get("data", asdict(data)))
    if difference := data.difference(saved):
        raise ValueError(f"the sweep in {folder} has other data: {difference}; name another folder for a new one")
    study.set_user_attr("data", asdict(data))


def _check_same_recipe(study: Any, one: Recipe) -> None:
    """Record how trials are trained, in one that stands for all; ValueError if others were trained otherwise."""
    checkpoint.check_same(one, Recipe.from_json(study.user_attrs.get("recipe", one.to_json())))
    study.set_user_attr("recipe", one.to_json())


@contextmanager
def _held(lock: Lock) -> Iterator[None]:
    """Within the context no other worker has the lock."""
    lock.acquire(wait=True)
    try:
        yield
    finally:
        lock.release()


def _abandoned_trial(study: Any, folder: Path) -> tuple[int, Lock] | None:
    """A trial that has begun and whose worker is gone, by number, and its lock, now held."""
    for trial in study.trials:
        lock = Lock(folder / f"trial{trial.number}.lock")
        if trial.state.name == "RUNNING" and lock.acquire(wait=False):
            still = study.trials[trial.number].state.name == "RUNNING"  # its worker may just have finished it
            if still and trial.params.keys() == set(EDGES):
                return trial.number, lock
            lock.release()
            if still:
                study.tell(trial.number, state=type(trial.state).FAIL)  # killed before all was drawn
    return None


def _new_trial(study: Any, folder: Path, space: SearchSpace, trials: int) -> tuple[int, Lock] | None:
    """A new trial with a genotype, by number, and its lock, now held; None if there are enough."""
    if sum(trial.state.name != "FAIL" or REASON in trial.user_attrs for trial in study.trials) >= trials:
        return None
    trial = study.ask()
    lock = Lock(folder / f"trial{trial.number}.lock")
    lock.acquire(wait=True)
    for edge in EDGES:
        trial.suggest_categorical(edge, space.ops[edge])
    return trial.number, lock
