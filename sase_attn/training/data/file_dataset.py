"""`FileDataset`: image files for torch's DataLoader, whose augmentation is a function of (seed, epoch, place)."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from sase_attn.training.data.image_file import UnreadableImageError, read_image
from sase_attn.training.data.order import hash_seed

Transform = Callable[[Any], Tensor]
Sample = tuple[Tensor | str, int, int]
Key = tuple[int, int, int]


class FileDataset(Dataset[Sample]):
    """Images as uint8 (3, H, W), or why they are broken, with target and place, by the key (epoch, place, draw).

    The place is the index of an image in the set. The random numbers of the transform are a function of (seed, epoch,
    place), and of `draw` if it is not 0.
    """

    def __init__(self, paths: Sequence[Path], targets: Tensor, transform: Transform, seed: int) -> None:
        self.paths, self.targets, self.transform, self._seed = paths, targets, transform, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: Key) -> Sample:
        epoch, index, draw = key
        target = int(self.targets[index])
        try:
            image = read_image(self.paths[index])
        except UnreadableImageError as error:
            return str(error), target, index
        with _seeded(hash_seed(self._seed, epoch, index, *([draw] if draw else []))):
            return self.transform(image), target, index


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """A context in which the generators that transforms use are seeded; their states are restored after it."""
    python, state = random.getstate(), torch.get_rng_state()
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        torch.set_rng_state(state)


def collate(samples: list[Sample]) -> tuple[Tensor, Tensor, dict[int, str]]:
    """A batch: images that could be read (uint8), their targets (int64), and the places of broken ones with reasons."""
    images = [image for image, _, _ in samples if isinstance(image, Tensor)]
    targets = [target for image, target, _ in samples if isinstance(image, Tensor)]
    broken = {index: image for image, _, index in samples if isinstance(image, str)}
    return torch.stack(images) if images else torch.empty(0), torch.tensor(targets, dtype=torch.int64), broken
