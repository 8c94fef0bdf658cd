"""`find_evaluation_images`: find test images before the network is known, and read them in the view of the network."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sase_attn.training.data.config import DataConfig
from sase_attn.training.data.folder import ClassFolders, scan_classes
from sase_attn.training.data.identity import DataIdentity
from sase_attn.training.data.image_file import UnreadableImageError
from sase_attn.training.data.in_memory import CHANNELS, MEMORY_BYTES, memory_loader
from sase_attn.training.data.loader import DataInfo, Loader
from sase_attn.training.data.on_disk import CROP_PCT, evaluation_loader
from sase_attn.training.data.open import open_data
from sase_attn.training.data.open_folder import NORMALISATION, load_splits
from sase_attn.training.data.order import Shard
from sase_attn.training.data.reading import SizesDifferError, check_headers, first_readable
from sase_attn.training.data.sets import DATA_SETS
from sase_attn.training.data.view import View


@dataclass(frozen=True)
class FoundImages:
    """Test images that were found: their classes and channels, and `read`, which returns a loader and a description."""

    classes: tuple[str, ...]
    channels: int
    read: Callable[[View], tuple[Loader, DataInfo]]


def find_evaluation_images(config: DataConfig, *, rank: int = 0, world_size: int = 1) -> FoundImages:
    """The test images of a named set, or of a folder (`val/<class>/*` or `<class>/*`), which needs no training images.

    Images of a set are read as by `open_data`, whatever the view. `read` raises ValueError for broken images, and for
    images of several sizes if nothing says to which size to resize them.

    Raises:
        UnknownNameError: no such data set. FileNotFoundError: no such folder, no split to test on, a failed download.
        ValueError: the folder is not as wanted.
    """
    folder = Path(config.data).expanduser()
    if config.data.partition(":")[0] in DATA_SETS or not folder.is_dir():
        _, loader, info = open_data(config, seed=0, rank=rank, world_size=world_size)
        return FoundImages(info.classes, info.channels, lambda view: (loader, info))
    found, shard = scan_classes(folder, warn=rank == 0), Shard(0, rank, world_size)
    return FoundImages(found.classes, CHANNELS, lambda view: _read(folder, found, config, shard, view))


def _read(folder: Path, found: ClassFolders, config: DataConfig, shard: Shard, view: View) -> tuple[Loader, DataInfo]:
    """A loader from memory if `open_folder` would load such images into memory, otherwise from files."""
    paths, size = found.files.paths, config.size or view.size
    try:
        first = first_readable(paths)
    except UnreadableImageError as error:
        raise ValueError(f"{folder}: none of {len(paths)} images can be read ({error})") from None
    described = partial(
        DataInfo, folder.name, found.classes, CHANNELS, mean=NORMALISATION[0], std=NORMALISATION[1], train_count=0,
        test_count=len(paths), identity=DataIdentity(found.classes, 0, len(paths), "", found.digest),
    )  # fmt: skip

    def in_memory(size_there: int | None) -> tuple[Loader, DataInfo]:
        ((images, targets),) = load_splits([found.files], found.classes, size_there, config, shard)
        height, width = images.shape[2:]
        info = described(size=(height, width) if size is None else (size, size))
        return memory_loader(images, targets, info, config, shard, training=False), info

    bytes_of_one_size = CHANNELS * len(paths) * first.width * first.height
    if view.crop_pct in (None, 1.0) and bytes_of_one_size <= MEMORY_BYTES:
        if size is None:
            return in_memory(None)
        if first.width == first.height <= size:
            with suppress(SizesDifferError):
                return in_memory(None)
    if size is None:
        raise ValueError(f"{folder}: nothing says at which size to serve its images; give the size")
    crop_pct = view.crop_pct or (CROP_PCT if config.augment == "imagenet" else 1.0)
    if crop_pct == 1.0 and CHANNELS * len(paths) * size * size <= MEMORY_BYTES:
        return in_memory(size)
    if config.on_broken == "refuse":
        check_headers(paths)
    info = described(size=(size, size), crop_pct=crop_pct)
    return evaluation_loader(found.files, info, view, config, shard), info
