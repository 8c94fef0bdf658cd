"""The training images of a folder, resized and cropped, and kept in memory."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sase_attn.spatially_adaptive.synthesis.config import SynthesisConfig
from sase_attn.training.data.identity import DataIdentity, FilesDigest
from sase_attn.training.data.order import seeded_generator
from sase_attn.training.data.reading import Broken, read_images, report_broken
from sase_attn.training.data.walk import SUFFIXES, Skipped, images_below

MOST_ENLARGED = 4  # an image that would have to be enlarged more counts as broken


@dataclass(frozen=True)
class TrainingImages:
    """The images as uint8 (N, 3, size, size), their files, and the identity of the data."""

    pixels: Tensor
    names: tuple[str, ...]
    identity: DataIdentity

    def batch(self, seed: int, step: int, batch_size: int) -> Tensor:
        """The images of a step, which depend on seed and step only; each image is used once before any is repeated."""
        count = len(self.pixels)
        places = []
        for position in range(step * batch_size, (step + 1) * batch_size):
            turn, place = divmod(position, count)
            order = torch.randperm(count, generator=seeded_generator(seed, turn))
            places.append(order[place])
        return self.pixels[torch.stack(places)]


def open_images(config: SynthesisConfig) -> TrainingImages:
    """Read the images of a configuration, with the shorter side resized to `size`, and cropped to the centre.

    Raises:
        FileNotFoundError, NotADirectoryError: no such folder.
        ValueError: the folder holds no images or fewer than a batch, or an image cannot be read or is too small.
    """
    if not config.images:
        raise ValueError("wanted a folder of images to learn from (--images FOLDER), got none")
    found = read_folder(Path(config.images), config.size, config.on_broken)
    if len(found.pixels) < config.batch_size:
        raise ValueError(
            f"{config.images}: wanted at least a batch of {config.batch_size} images, got {len(found.pixels)}; "
            f"give more images, or --batch-size {len(found.pixels)}"
        )
    return found


def read_folder(folder: Path, size: int, on_broken: str = "refuse") -> TrainingImages:
    """Read the images in a folder and its subfolders. Raises as `open_images` does."""
    skipped = Skipped()
    root = folder.resolve()
    files = images_below(root, skipped)
    skipped.warn(root)
    if not files:
        raise ValueError(f"{folder} holds no images; wanted {', '.join(SUFFIXES)}")
    paths = [root / file.name for file in files]
    pixels, bad = read_images(paths, size, smallest=max(1, size // MOST_ENLARGED))
    broken = [Broken(paths[index], reason) for index, reason in bad.items()]
    report_broken(broken, len(paths), on_broken, warn=True)
    if not len(pixels):
        raise ValueError(f"{folder}: none of {len(paths)} images can be read ({broken[0].reason})")
    digest = FilesDigest()
    for file in files:
        digest.add(file.name, file.size)
    names = tuple(file.name for index, file in enumerate(files) if index not in bad)
    return TrainingImages(pixels, names, DataIdentity(train_count=len(files), train_digest=str(digest)))
