"""The files of annotated images: find them below their folder, and check them without reading their pixels."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from sase_attn.training.data.image_file import UnreadableImageError, check_header
from sase_attn.training.data.reading import GROUP, HEADERS


class FileState(NamedTuple):
    """The state of a file: its size in bytes (-1: no such file), width and height if it was opened, or its error."""

    bytes: int
    size: tuple[int, int] | None = None
    reason: str | None = None


def find_names(folder: Path, annotations: Path, names: Sequence[str]) -> list[str]:
    """The names of images relative to their folder.

    Each is the name in the annotation file if such a file exists in the folder. Otherwise it is the first that exists
    of: the name relative to the annotation file, and its last part alone, unless several images share that.
    """
    lasts = Counter(map(_last, names))
    return [_found(folder, annotations.parent, name, lasts[_last(name)] == 1) for name in names]


def _found(folder: Path, beside: Path, name: str, last_will_do: bool) -> str:
    if not (folder / name).is_file():
        if (beside / name).is_file():
            return os.path.relpath(beside / name, folder)
        if last_will_do and (folder / _last(name)).is_file():
            return _last(name)
    return os.path.normpath(name)


def _last(name: str) -> str:
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def read_names(path: Path) -> list[str]:
    """The lines of a text file that are not empty. Names of files may be no UTF-8. Raises OSError."""
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape").replace("\0", "")
    return [line.strip() for line in text.splitlines() if line.strip()]


def look_at(paths: Sequence[Path], must_have_size: Callable[[int], bool]) -> list[FileState]:
    """The state of each file. Of more than `HEADERS` files, that many are opened, evenly spaced, and required ones.

    Args:
        paths: the files.
        must_have_size: whether the file at an index must be opened.
    """
    every = -(-len(paths) // HEADERS) or 1

    def states(group: range) -> list[FileState]:
        return [_state(paths[place], place % every == 0 or must_have_size(place)) for place in group]

    groups = [range(start, min(start + GROUP, len(paths))) for start in range(0, len(paths), GROUP)]
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        return [state for group in pool.map(states, groups) for state in group]


def _state(path: Path, opened: bool) -> FileState:
    try:
        size = path.stat().st_size
    except OSError as error:
        return FileState(-1, reason=error.strerror or "no such file")
    if not path.is_file():
        return FileState(-1, reason="no file")
    if not opened:
        return FileState(size)
    try:
        return FileState(size, check_header(path))
    except UnreadableImageError as error:
        return FileState(size, reason=str(error))
