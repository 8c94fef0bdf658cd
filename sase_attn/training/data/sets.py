"""Data sets by name, as arrays: the embedded one, and those of torchvision.

Images of Fashion-MNIST are padded from 28x28 to 32x32 with zeros, and served with three equal channels, so that every
network accepts them unchanged.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import pad

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FASHION_MEAN, FASHION_STD = (0.286,) * 3, (0.353,) * 3


@dataclass(frozen=True)
class Arrays:
    """A data set in memory: images (N, 1 or 3, H, W) uint8 and targets (N,) int64 of both splits."""

    name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def embedded(root: str = "") -> Arrays:
    """The first 600 training and 100 test images of each class of Fashion-MNIST (Zalando SE, MIT licence).

    The licence is `fashion_mnist.LICENSE` beside the data; `benchmarks/make_embedded_data.py` made both.
    Raises ValueError if there is a root: nothing is read from elsewhere.
    """
    if root:
        raise ValueError(f'data "embedded" comes with the package: wanted no folder after it, got {root!r}')
    with (files("sase_attn.training.data") / "fashion_mnist.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        splits = [
            (_padded(torch.from_numpy(arrays[f"{split}_images"])), torch.from_numpy(arrays[f"{split}_labels"]).long())
            for split in ("train", "test")
        ]
    return Arrays("embedded", FASHION_CLASSES, FASHION_MEAN, FASHION_STD, *splits)


def cifar10(root: str = "") -> Arrays:
    """CIFAR-10: `ROOT/cifar-10-batches-py/`."""
    return _cifar("cifar10", "CIFAR10", root, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


def cifar100(root: str = "") -> Arrays:
    """CIFAR-100: `ROOT/cifar-100-python/`."""
    return _cifar("cifar100", "CIFAR100", root, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))


def fashion_mnist(root: str = "") -> Arrays:
    """All of Fashion-MNIST: the four `*-ubyte` files of `ROOT/FashionMNIST/raw/`, unpacked."""
    train, test = _torchvision("FashionMNIST", root, "the four *-ubyte files, unpacked, in {root}/FashionMNIST/raw/")
    splits = [(_padded(split.data), split.targets.long()) for split in (train, test)]
    return Arrays("fashion-mnist", FASHION_CLASSES, FASHION_MEAN, FASHION_STD, *splits)


def _padded(images: Tensor) -> Tensor:
    return pad(images[:, None], (2, 2, 2, 2))


def _cifar(name: str, cls: str, root: str, mean: tuple[float, ...], std: tuple[float, ...]) -> Arrays:
    archive = {"cifar10": "cifar-10-python.tar.gz", "cifar100": "cifar-100-python.tar.gz"}[name]
    train, test = _torchvision(cls, root, f"{archive}, or what it unpacks to, in {{root}}/")
    splits = [
        (torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(split.targets))
        for split in (train, test)
    ]
    return Arrays(name, tuple(train.classes), mean, std, *splits)


def _torchvision(cls: str, root: str, wanted: str) -> tuple[Any, Any]:
    """Both splits; rank 0 of a distributed run downloads missing files while the others wait.

    Raises FileNotFoundError, with the files that are wanted, if they are not there and cannot be downloaded.
    """
    from torchvision import datasets

    root = root or "data"
    follower = dist.is_available() and dist.is_initialized() and dist.get_rank() > 0
    if follower:
        dist.barrier()
    try:
        folder = Path(root).expanduser()
        load = getattr(datasets, cls)
        return _present_or_download(load, folder, True), _present_or_download(load, folder, False)
    except (OSError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise FileNotFoundError(
            f"{cls} is not in {root} and could not be downloaded ({reason}); put {wanted.format(root=root)}"
        ) from None
    finally:
        if dist.is_available() and dist.is_initialized() and not follower:
            dist.barrier()


def _present_or_download(cls: Callable[..., Any], root: Path, train: bool) -> Any:
    try:
        return cls(root, train=train)
    except RuntimeError:  # torchvision raises it for "not found or corrupted"
        return cls(root, train=train, download=True)


DATA_SETS: dict[str, Callable[[str], Arrays]] = {
    "embedded": embedded,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "fashion-mnist": fashion_mnist,
}
