"""The protocols `Loader` and `SubsetLoader` of image loaders, and `DataInfo`, the description of a data set."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sase_attn.training.data.identity import DataIdentity


@dataclass(frozen=True)
class DataInfo:
    """The description of a loaded data set: `size` is (height, width), `mean` and `std` are those of pixels in [0, 1].

    Test images are resized bilinearly such that the central `crop_pct` of their shorter side has that size. `identity`
    is compared when a run is resumed; by default it is made from the classes and the counts.
    """

    name: str
    classes: tuple[str, ...]
    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_count: int
    test_count: int
    crop_pct: float = 1.0
    identity: DataIdentity = DataIdentity()

    def __post_init__(self) -> None:
        if self.identity == DataIdentity():
            identity = DataIdentity(tuple(self.classes), self.train_count, self.test_count)
            object.__setattr__(self, "identity", identity)


class Loader(Protocol):
    """Batches of images, epoch by epoch."""

    @property
    def batches(self) -> int:
        """Number of batches in an epoch, on this rank."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of an epoch from batch `start` on: normalised float32 (B, C, H, W) and int64 targets (B,)."""
        ...


class SubsetLoader(Loader, Protocol):
    """A loader that can serve a subset of its samples."""

    @property
    def samples(self) -> int:
        """Number of samples, over all ranks."""
        ...

    @property
    def targets(self) -> Tensor:
        """The class of each sample of the whole set, in the set's order (int64)."""
        ...

    def subset(self, indices: Tensor, seed: int) -> "SubsetLoader":
        """The training samples at `indices` (int64), in an order and with an augmentation that follow from `seed`."""
        ...
