"""`CocoSet`: the images and objects of one annotation file, in little memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sase_attn.detection.data.objects import ImageObjects, Objects
from sase_attn.detection.data.report import CocoReport
from sase_attn.training.data.identity import DIGEST_BYTES, DataIdentity
from sase_attn.training.data.paths import Paths


class CocoImage(NamedTuple):
    """An image: its id in the annotation file, its path, and its size in pixels."""

    id: int
    path: Path
    width: int
    height: int


class CocoImages:
    """The images of a set, in the order of the annotation file; each `CocoImage` is made when it is accessed."""

    def __init__(self, ids: NDArray[np.int64], paths: Paths, sizes: NDArray[np.int64]) -> None:
        self.ids, self.paths, self.sizes = ids, paths, sizes

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: int) -> CocoImage:
        width, height = map(int, self.sizes[place])
        return CocoImage(int(self.ids[place]), self.paths[place], width, height)

    def __iter__(self) -> Iterator[CocoImage]:
        return (self[place] for place in range(len(self)))


@dataclass(frozen=True, eq=False)
class CocoSet:
    """The images of an annotation file with their objects.

    Args:
        annotations: the file.
        images: the images in the order of that file. `images[i].id` is the id in the file.
        classes: names of the categories, in the order of their ids.
        category_ids: `category_ids[k]` is the id of label k + 1; label 0 is the background.
        objects: `objects[i]` are the objects of `images[i]`, crowds included.
        report: counts, and findings while the file was read.
        identity_digest: a digest that is equal for the same images and objects in any folder.
    """

    annotations: Path
    images: CocoImages
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    objects: Objects
    report: CocoReport
    identity_digest: str

    def __len__(self) -> int:
        return len(self.images)

    def label_of(self, category_id: int) -> int:
        """The label of a category. Raises KeyError for an id that the file does not list."""
        try:
            return self.category_ids.index(category_id) + 1
        except ValueError:
            raise KeyError(category_id) from None

    def objects_of(self, image_id: int) -> ImageObjects:
        """The objects of an image by its id. Raises KeyError for an id that the file does not list."""
        found = np.flatnonzero(self.images.ids == image_id)
        if not len(found):
            raise KeyError(image_id)
        return self.objects[int(found[0])]


def digest_of(names: list[str], file_sizes: list[int], objects: Objects) -> str:
    """A digest of the names and sizes of image files, and of the objects."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    for name, size in zip(names, file_sizes, strict=True):
        digest.update(f"{name}\0{size}\n".encode("utf-8", "surrogateescape"))
    for array in objects.arrays():
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def identity_of(train: CocoSet, val: CocoSet) -> DataIdentity:
    """The identity of the data that a detector is trained with and evaluated on."""
    return DataIdentity(train.classes, len(train), len(val), train.identity_digest, val.identity_digest)
