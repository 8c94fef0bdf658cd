"""Images to train and test on: the embedded set, torchvision's sets, image folders.

    train, test, info = open_data(DataConfig("embedded"), seed=0)
    for images, targets in train.epoch(0): ...

Small sets live in memory as uint8 and are augmented batch by batch; larger ones are read from their files, by worker
processes if so wished. Either way an epoch is a pure function of (seed, epoch): it can be taken up at any batch, and
the ranks of a distributed run share out the very batches that one process would see.
"""

from pathlib import Path

from sase_attn.errors import unknown_name
from sase_attn.training.data.config import DataConfig, DataInfo, Loader, PartLoader
from sase_attn.training.data.folder import open_folder
from sase_attn.training.data.in_memory import memory_loaders
from sase_attn.training.data.order import Share
from sase_attn.training.data.sets import DATA_SETS

__all__ = ["DataConfig", "DataInfo", "Loader", "PartLoader", "open_data"]


def open_data(
    config: DataConfig, *, seed: int, rank: int = 0, world_size: int = 1
) -> tuple[PartLoader, PartLoader, DataInfo]:
    """Open a data set.

    Args:
        config: which, and how it is served.
        seed: of the order and the augmentation of the training images.
        rank, world_size: this process among all; it gets every `world_size`-th image of each global batch.

    Returns:
        Training loader, test loader (in order, not augmented), and what the data are.

    Raises:
        UnknownNameError: no such data set. FileNotFoundError: no such folder or split, or a download failed.
        ValueError: the folder is not as wanted, or an image is broken; or fewer images than ranks.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank: wanted one from 0 to {world_size - 1}, got {rank}")
    share = Share(seed, rank, world_size)
    name, _, root = config.data.partition(":")
    if name in DATA_SETS:
        return memory_loaders(DATA_SETS[name](root), config, share)
    folder = Path(config.data).expanduser()
    if folder.is_dir():
        return open_folder(folder, config, share)
    if len(folder.parts) > 1 or folder.exists():
        raise FileNotFoundError(f"no such image folder: {folder}; wanted one with train/<class>/* and val/<class>/*")
    known = [*DATA_SETS, "a folder with train/<class>/* and val/<class>/*"]
    raise unknown_name("data set or image folder", config.data, known)
