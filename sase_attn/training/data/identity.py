"""`DataIdentity`: the identity of the data of a run, which checkpoints, results and weights record."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from torch import Tensor

DIGEST_BYTES = 16


@dataclass(frozen=True)
class DataIdentity:
    """Class names, numbers of images and digests of both splits; equal for the same data, wherever they are stored.

    Args:
        classes: class names, in the order of their numbers.
        train_count, test_count: numbers of images, including broken ones.
        train_digest, test_digest: digests of the splits: for a folder, of the names and sizes of its files; for a set
            in memory, of pixels and targets. They are empty for your own loaders, whose data are not known.
    """

    classes: tuple[str, ...] = ()
    train_count: int = 0
    test_count: int = 0
    train_digest: str = ""
    test_digest: str = ""

    def difference(self, saved: "DataIdentity") -> str:
        """What differs from the data that something was saved with, in words; empty if nothing does."""
        if self.classes != saved.classes:
            return class_differences(self.classes, saved.classes, "the data", "what was saved")
        found = []
        for split, before, after in (
            ("training", (saved.train_count, saved.train_digest), (self.train_count, self.train_digest)),
            ("test", (saved.test_count, saved.test_digest), (self.test_count, self.test_digest)),
        ):
            if before[0] != after[0]:
                found.append(f"{after[0]} {split} images, saved with {before[0]}")
            elif before != after:
                found.append(f"files changed: as many {split} images, but other names, sizes or pixels")
        return "; ".join(found)


def class_differences(first: Sequence[str], second: Sequence[str], here: str, there: str) -> str:
    """How two lists of class names differ, in words; `here` and `there` say where each list is."""
    parts = []
    for names, others, place, other_place in ((first, second, here, there), (second, first, there, here)):
        if missing := sorted(set(names) - set(others)):
            parts.append(f"{listed(missing)} in {place} but not in {other_place}")
    return "classes differ: " + (", ".join(parts) or f"{listed(first)} in {here} are in another order in {there}")


def listed(names: Sequence[str]) -> str:
    """The first five names, and the number of others, as text."""
    return ", ".join(names[:5]) + f" and {len(names) - 5} more" * (len(names) > 5)


class FilesDigest:
    """A digest of names, relative to their split, and sizes of files, in the order in which they are added."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=DIGEST_BYTES)

    def add(self, name: str, size: int) -> None:
        """Add one file."""
        self._hash.update(b"%b\0%d\n" % (os.fsencode(name.replace(os.sep, "/")), size))

    def __str__(self) -> str:
        return self._hash.hexdigest()


def digest_of_tensors(images: Tensor, targets: Tensor) -> str:
    """A digest of the images and targets of a set in memory."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    for tensor in (images, targets):
        digest.update(repr(tuple(tensor.shape)).encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
