"""The checkpoint of a training of a detector: configuration, progress, and the state of the trainer."""

from dataclasses import dataclass, field
from pathlib import Path

from sase_attn.detection.config import MAY_CHANGE, DetectionConfig
from sase_attn.training.checkpoint import Checkpoint, Progress, check_same, load_checkpoint

SETTINGS_NAME = "detection"


@dataclass
class DetectionProgress(Progress):
    """The progress of a training, with the losses of this epoch summed over its images, and the best epoch so far."""

    loss_sums: dict[str, float] = field(default_factory=dict)
    images: int = 0
    best_ap: float = -1.0
    best_epoch: int = -1

    def next_epoch(self) -> None:
        super().next_epoch()
        self.loss_sums, self.images = {}, 0

    def add(self, losses: dict[str, float], images: int) -> None:
        """Add the mean losses of a step over a number of images."""
        self.images += images
        for name, value in losses.items():
            self.loss_sums[name] = self.loss_sums.get(name, 0.0) + value * images

    def losses(self) -> dict[str, float]:
        """The mean losses of this epoch."""
        return {name: value / self.images for name, value in self.loss_sums.items()}


def load_detection(folder: Path) -> Checkpoint[DetectionConfig, DetectionProgress]:
    """The checkpoint of the training in a folder. Raises as `load_checkpoint` does."""
    return load_checkpoint(folder, DetectionConfig, DetectionProgress, SETTINGS_NAME)


def check_resumable(config: DetectionConfig, saved: Checkpoint[DetectionConfig, DetectionProgress]) -> None:
    """Raise ValueError, naming the difference, if a training cannot be resumed with a configuration.

    The number of epochs may be larger, because the learning rate of a step does not depend on it.
    """
    check_same(config, saved.settings, (*MAY_CHANGE, "epochs"))
    if config.epochs < saved.progress.epoch:
        raise config.wrong("epochs", f"at least the {saved.progress.epoch} that are done", config.epochs)
