"""`open_data`: loaders of a data set by its name, or of an image folder."""

from pathlib import Path

from sase_attn.errors import unknown_name
from sase_attn.training.data.config import DataConfig
from sase_attn.training.data.in_memory import identity_of, memory_loaders
from sase_attn.training.data.loader import DataInfo, SubsetLoader
from sase_attn.training.data.open_folder import open_folder
from sase_attn.training.data.order import Shard
from sase_attn.training.data.sets import DATA_SETS


def open_data(
    config: DataConfig, *, seed: int, rank: int = 0, world_size: int = 1
) -> tuple[SubsetLoader, SubsetLoader, DataInfo]:
    """Open a data set.

    Args:
        config: which data set, and how to load it.
        seed: the seed of the order and the augmentation of the training images.
        rank, world_size: the rank of this process, which gets every `world_size`-th image of each global batch.

    Returns:
        Training loader, test loader (in order, not augmented), and a description of the data.

    Raises:
        UnknownNameError: no such data set. FileNotFoundError: no such folder or split, or a download failed.
        ValueError: the folder is not an image folder, or an image is broken; or fewer images than ranks.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank: wanted one from 0 to {world_size - 1}, got {rank}")
    shard = Shard(seed, rank, world_size)
    name, _, root = config.data.partition(":")
    if name in DATA_SETS:
        arrays = DATA_SETS[name](root)
        return memory_loaders(arrays, identity_of(arrays), config, shard)
    folder = Path(config.data).expanduser()
    if folder.is_dir():
        return open_folder(folder, config, shard)
    if len(folder.parts) > 1 or folder.exists():
        raise FileNotFoundError(f"no such image folder: {folder}; wanted one with train/<class>/* and val/<class>/*")
    known = [*DATA_SETS, "a folder with train/<class>/* and val/<class>/*"]
    raise unknown_name("data set or image folder", config.data, known)
