"""`Paths`: many paths in little memory. 1.28 million take 60 MB, but 450 MB as `Path` objects."""

import os
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np


class Paths(Sequence[Path]):
    """Paths below a folder, in one buffer without Python objects, which worker processes share without copies.

    Args:
        folder: the folder that the names are relative to.
        names: the names.
    """

    def __init__(self, folder: Path, names: Iterable[str] = ()) -> None:
        self.folder = folder
        buffer, ends = bytearray(), array("q", [0])
        for name in names:
            buffer += os.fsencode(name)
            ends.append(len(buffer))
        self._buffer, self._ends = np.frombuffer(bytes(buffer), np.uint8), np.array(ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"index: wanted one of {len(self)} paths, got {index}")
        index %= len(self)
        return self.folder / os.fsdecode(self._buffer[self._ends[index] : self._ends[index + 1]].tobytes())
