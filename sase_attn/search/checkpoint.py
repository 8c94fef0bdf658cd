"""The checkpoint of a search: super-network, optimizers, progress, and the configuration as JSON; replaced as a whole.

No state of a random generator is needed: batches and draws are functions of the seed and the step.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sase_attn.records import record_from
from sase_attn.search.config import SearchConfig
from sase_attn.training.checkpoint import load_checkpoint

NAME = "checkpoint.pt"
# Fields that move no number of the super-network's training, and so may change when a search is resumed.
FREE = ("workers", "log_every", "select", "select_images", "candidates", "tune_epochs")


@dataclass
class SearchProgress:
    """Where a search stands: `step` of `epoch` is the next one to do; what was summed up, and found epoch by epoch."""

    epoch: int = 0
    step: int = 0
    train_loss: float = 0.0
    val_loss: float = 0.0
    count: int = 0
    seconds: float = 0.0
    log_bytes: int = 0
    stopped: bool = False
    genotypes: list[str] = field(default_factory=list)
    curvatures: list[float] = field(default_factory=list)


def load_search(folder: Path) -> tuple[SearchConfig, SearchProgress, dict[str, Any]]:
    """Configuration, progress and state of the search in a folder. Raises as `load_checkpoint` does."""

    def parsed(content: dict[str, Any]) -> tuple[SearchConfig, SearchProgress, dict[str, Any]]:
        return SearchConfig.from_json(content["config"]), record_from(SearchProgress, content["progress"]), content

    return load_checkpoint(folder / NAME, parsed)
