"""The checkpoint of a training on one image: configuration, progress, and the state of networks and optimizers."""

from pathlib import Path

from sase_attn.spatially_adaptive.synthesis.one_shot.config import MAY_CHANGE, OneShotConfig
from sase_attn.training.checkpoint import Checkpoint, Progress, check_same, load_checkpoint

SETTINGS_NAME = "one_shot"


def load_progress(folder: Path) -> Checkpoint[OneShotConfig, Progress]:
    """The checkpoint of the training in a folder. Raises as `load_checkpoint` does."""
    return load_checkpoint(folder, OneShotConfig, Progress, SETTINGS_NAME)


def resumable(config: OneShotConfig, saved: OneShotConfig) -> OneShotConfig:
    """The configuration to resume a training with; the saved number of scales is used if `config` does not set one.

    Raises:
        ValueError: the configuration differs in anything else; the message names the difference.
    """
    if config.scales is None:
        config = config.override(scales=saved.scales)
    check_same(config, saved, MAY_CHANGE)
    return config
