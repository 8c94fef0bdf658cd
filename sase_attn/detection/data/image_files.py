"""The files of annotated images: found below their folder, and looked at without reading their pixels."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from sase_attn.training.data.image_file import UnreadableImageError, check_header
from sase_attn.training.data.reading import GROUP, HEADERS


class FileState(NamedTuple):
    """What is known of a file: its bytes (-1: there is none), its width and height if looked at, or what is wrong."""

    bytes: int
    size: tuple[int, int] | None = None
    reason: str | None = None


def place_of(folder: Path, annotations: Path, name: str) -> str:
    """The name of an image relative to the folder of the images.

    It is the one in the annotation file if there is such a file; else, if those exist, its last part alone, or the one
    beside the annotation file.
    """
    if (folder / name).is_file():
        return os.path.normpath(name)
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    if last != name and (folder / last).is_file():
        return last
    beside = annotations.parent / name
    return os.path.relpath(beside, folder) if beside.is_file() else name


def look_at(paths: Sequence[Path], must_have_size: Callable[[int], bool]) -> list[FileState]:
    """The state of each file. Of more than `HEADERS` so many are opened, at even distances; and all that must be.

    Args:
        paths: the files.
        must_have_size: whether the file at a place must be opened.
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
