"""Checkpoints: one file, replaced as a whole, read with `weights_only=True` (nothing in it is executed).

It holds the settings as JSON, the epoch and the step, the length of the log, and the state of what is trained: weights,
optimizers, averages. No state of a random generator is needed, see `ResumableLoop`.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch

from sase_attn.errors import in_words
from sase_attn.files import write_atomically
from sase_attn.records import record_from
from sase_attn.settings import Settings
from sase_attn.training.data.identity import DataIdentity
from sase_attn.training.recipes import Recipe
from sase_attn.weights.files import read_file

NAME = "checkpoint.pt"
DATA = "data"  # key of the identity of the data, in the state
NORMALISATION = "normalisation"  # key of the normalisation of images, in the state
# Fields of a recipe that may change when a run is resumed, as its results do not depend on them. `data` may name
# another place, but must be the same images: see `check_same_data`.
MAY_CHANGE = ("data", "workers", "checkpoint_every", "log_every", "imports")


@dataclass
class Progress:
    """How far a run is: `step` of `epoch` is the next step; `seconds` were spent; the log has `log_bytes` bytes."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    log_bytes: int = 0

    def next_epoch(self) -> None:
        """Go to the start of the next epoch."""
        self.epoch, self.step = self.epoch + 1, 0


@dataclass
class TrainProgress(Progress):
    """The progress of a training, with the loss summed over the images of this epoch, and the best epoch so far."""

    loss_sum: float = 0.0
    loss_count: int = 0
    best_top1: float = -1.0
    best_epoch: int = -1

    def next_epoch(self) -> None:
        super().next_epoch()
        self.loss_sum, self.loss_count = 0.0, 0


S = TypeVar("S")
P = TypeVar("P", bound=Progress)
ReadableSettings = TypeVar("ReadableSettings", bound=Settings)


@dataclass(frozen=True)
class Normalisation:
    """The normalisation of images, which may be that of the weights that a run started from."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Checkpoint(NamedTuple, Generic[S, P]):
    """A run as it was saved: its settings, its progress, and the state of what is trained."""

    settings: S
    progress: P
    state: dict[str, Any]


def save_checkpoint(folder: Path, saved: Checkpoint[Any, Any], settings_name: str) -> None:
    """Replace the checkpoint of a folder; the settings are stored under `settings_name`."""
    content = {settings_name: saved.settings.to_json(), "progress": asdict(saved.progress), **saved.state}
    write_atomically(folder / NAME, lambda file: torch.save(content, file))


def load_checkpoint(
    folder: Path, settings: type[ReadableSettings], progress: type[P], settings_name: str
) -> Checkpoint[ReadableSettings, P]:
    """Read the checkpoint of a folder, tensors on the CPU.

    Args:
        folder: the folder of the run.
        settings, progress: the types of the settings and the progress.
        settings_name: the key under which the settings are stored.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: it is damaged, or one of another kind of run.
    """
    path = folder / NAME
    if not path.is_file():
        raise FileNotFoundError(f"nothing to resume: {path} does not exist")
    try:
        state = read_file(path)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}")
        if settings_name not in state:
            held = next((name for name, value in state.items() if isinstance(value, str)), "none")
            raise ValueError(f"it is of another kind, wanted one with {settings_name!r}, got one with {held!r}")
        return Checkpoint(
            settings.from_json(state.pop(settings_name)), record_from(progress, state.pop("progress")), state
        )
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # a file that cannot be opened
        reason = str(error).splitlines()[0].removeprefix(f"{path} is ") if str(error) else type(error).__name__
        raise ValueError(f"{path} is no checkpoint of a run: {reason}") from None


def is_run_checkpoint(path: Path) -> bool:
    """Whether a file is the checkpoint of a run: by its name, unless it can be read and proves to be something else.

    Raises:
        OSError: it cannot be read.
    """
    if path.name != NAME:
        return False
    try:
        content = read_file(path, "meta")
    except ValueError:
        return True  # loading it then says what is wrong
    return isinstance(content, dict) and "progress" in content


def load_run(folder: Path) -> Checkpoint[Recipe, TrainProgress]:
    """The checkpoint of a training. Raises as `load_checkpoint` does."""
    return load_checkpoint(folder, Recipe, TrainProgress, "recipe")


@contextmanager
def fitting_network() -> Iterator[None]:
    """A context for loading weights of a checkpoint, in which weights that do not fit the network raise ValueError."""
    try:
        yield
    except (RuntimeError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"the checkpoint does not fit the network: {in_words(error)[:300]}") from None


def check_same(now: ReadableSettings, saved: ReadableSettings, may_change: Collection[str] = MAY_CHANGE) -> None:
    """Raise ValueError naming the fields in which a resumed run would differ from the one that was saved."""
    changed = [name for name in now.differences(saved) if name not in may_change]
    if changed:
        listed = ", ".join(f"{name} (saved {getattr(saved, name)!r}, now {getattr(now, name)!r})" for name in changed)
        raise ValueError(f"cannot resume with another {now.KIND}: {listed}; name another output folder for a new run")


def saved_identity(saved: Checkpoint[Any, Any]) -> DataIdentity:
    """The identity of the data of a run. Raises ValueError if the checkpoint lacks it."""
    try:
        return record_from(DataIdentity, saved.state.get(DATA))
    except ValueError as error:
        raise ValueError(f"the checkpoint does not say with which data it was made: {error}") from None


def saved_normalisation(saved: Checkpoint[Any, Any]) -> Normalisation:
    """The normalisation of images in a run. Raises ValueError if the checkpoint lacks it."""
    try:
        return record_from(Normalisation, saved.state.get(NORMALISATION))
    except ValueError as error:
        raise ValueError(f"the checkpoint does not say how its images were normalised: {error}") from None


def check_same_data(now: DataIdentity, saved: Checkpoint[Any, Any]) -> None:
    """Raise ValueError, naming what differs, if a resumed run would get other data, wherever they are stored."""
    if difference := now.difference(saved_identity(saved)):
        raise ValueError(
            f"cannot resume with other data: {difference}; give back the data, or name another output folder for a "
            "new run"
        )
