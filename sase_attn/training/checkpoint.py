"""Checkpoints: one file, replaced as a whole, read with `weights_only=True` (nothing in it is executed).

It holds the weights, their average, the optimizer and its scaler, where in which epoch the run stands, how long the log
was, and the recipe as JSON. No state of a random generator is needed: the batches are a function of (seed, epoch), and
the generator that dropout draws from is seeded anew by (seed, step, rank) at every step, on every rank. The learning
rate is a function of the step.
"""

import pickle
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from sase_attn.files import write_atomically
from sase_attn.records import record_from
from sase_attn.settings import Settings
from sase_attn.training.recipes import Recipe

NAME = "checkpoint.pt"
# Fields that move no number, and so may change when a run is resumed.
FREE = ("workers", "checkpoint_every", "log_every")
T = TypeVar("T")
S = TypeVar("S", bound=Settings)


@dataclass
class Progress:
    """Where a run stands: `step` of `epoch` is the next one to do, and what has been summed up on the way."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    seconds: float = 0.0
    best_top1: float = -1.0
    best_epoch: int = -1
    log_bytes: int = 0


def save(folder: Path, state: dict[str, Any], progress: Progress, recipe: Recipe) -> None:
    """Replace the checkpoint of a folder."""
    write_checkpoint(folder / NAME, {"recipe": recipe.to_json(), "progress": asdict(progress), **state})


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors, numbers and strings, atomically."""
    write_atomically(path, lambda file: torch.save(content, file))


def load(folder: Path) -> tuple[dict[str, Any], Progress, Recipe]:
    """State, progress and recipe of the run in a folder.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: the file is damaged, or no checkpoint of a run.
    """

    def parsed(content: dict[str, Any]) -> tuple[dict[str, Any], Progress, Recipe]:
        recipe, progress = Recipe.from_json(content.pop("recipe")), record_from(Progress, content.pop("progress"))
        return content, progress, recipe

    return load_checkpoint(folder / NAME, parsed)


def load_checkpoint(path: Path, parse: Callable[[dict[str, Any]], T]) -> T:
    """Read a checkpoint and parse its content; nothing in it is executed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, or `parse` does not find what it wants.
    """
    if not path.is_file():
        raise FileNotFoundError(f"nothing to resume: {path} does not exist")
    try:
        return parse(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, EOFError, KeyError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is no checkpoint of a run: {reason}") from None


def check_same(now: S, saved: S, free: Collection[str] = FREE) -> None:
    """Raise ValueError naming the fields in which a resumed run would differ from the one that was saved."""
    changed = [name for name in now.differences(saved) if name not in free]
    if changed:
        listed = ", ".join(f"{name} (saved {getattr(saved, name)!r}, now {getattr(now, name)!r})" for name in changed)
        raise ValueError(f"cannot resume with another {now.KIND}: {listed}; name another output folder for a new run")
