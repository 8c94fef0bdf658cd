"""The checkpoint of a search: configuration, progress, and the state of super-network and optimizers."""

from dataclasses import dataclass, field
from pathlib import Path

from sase_attn.search.config import SearchConfig
from sase_attn.training.checkpoint import Checkpoint, Progress, load_checkpoint


@dataclass
class SearchProgress(Progress):
    """The progress of a search, with losses summed over the steps of this epoch, and the genotype after each epoch."""

    train_loss: float = 0.0
    val_loss: float = 0.0
    count: int = 0
    stopped: bool = False
    genotypes: list[str] = field(default_factory=list)
    curvatures: list[float] = field(default_factory=list)

    def next_epoch(self) -> None:
        super().next_epoch()
        self.train_loss, self.val_loss, self.count = 0.0, 0.0, 0


def load_search(folder: Path) -> Checkpoint[SearchConfig, SearchProgress]:
    """The checkpoint of the search in a folder. Raises as `load_checkpoint` does."""
    saved = load_checkpoint(folder, SearchConfig, SearchProgress, "config")
    epochs = saved.progress.epoch
    if saved.settings.method == "darts" and len(saved.progress.genotypes) != epochs:
        raise ValueError(f"the checkpoint in {folder} is damaged: wanted a genotype of each of {epochs} epochs")
    return saved
