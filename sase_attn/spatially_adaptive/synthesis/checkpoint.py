"""The checkpoint of a training for synthesis: configuration, progress, and the state of both networks."""

from dataclasses import dataclass
from pathlib import Path

from sase_attn.spatially_adaptive.synthesis.config import MAY_CHANGE, SynthesisConfig
from sase_attn.training.checkpoint import Checkpoint, Progress, check_same, load_checkpoint


@dataclass
class SynthesisProgress(Progress):
    """The progress of a training, and the best KID so far with its step."""

    best_kid: float | None = None
    best_step: int = 0


def load_synthesis(folder: Path) -> Checkpoint[SynthesisConfig, SynthesisProgress]:
    """The checkpoint of the training in a folder. Raises as `load_checkpoint` does."""
    return load_checkpoint(folder, SynthesisConfig, SynthesisProgress, "config")


def check_resumable(config: SynthesisConfig, saved: Checkpoint[SynthesisConfig, SynthesisProgress]) -> None:
    """Raise ValueError, naming the difference, if a training cannot be resumed with these settings."""
    check_same(config, saved.settings, MAY_CHANGE)
    if config.round_steps != saved.settings.round_steps:
        raise config.wrong("steps", f"a multiple of the {saved.settings.round_steps} steps of a sheet", config.steps)
    if config.epochs < saved.progress.epoch:
        done = saved.progress.epoch * config.round_steps
        raise config.wrong("steps", f"at least the {done} that are done", config.steps)
