"""`Walk`: the image files below the folders of classes, each once, without those of other classes or of tools."""

import os
import warnings
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
OF_TOOLS = (".", "@", "__")  # .ipynb_checkpoints, @eaDir, __MACOSX

# Kinds of files that are left out, as the warning names them.
TOOL_FOLDERS = "a tool's folder"
LINKS = "a link to what is read anyway, or to another class or split"
HIDDEN_IMAGES = "a hidden image"
OTHER_FILES = "a file of unknown suffix"
STRAY_IMAGES = "an image in no class"


class ImageFile(NamedTuple):
    """A file by its name relative to the split's folder, and its size in bytes (-1 if it is unknown)."""

    name: str
    size: int


class Skipped:
    """Files that were left out: the number of each kind, and an example."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, kind: str, path: str) -> None:
        """Count one of a kind."""
        count, example = self._found.get(kind, (0, path))
        self._found[kind] = count + 1, example

    def warn(self, folder: Path) -> None:
        """Warn in one line of what was left out below a folder, if anything."""
        if self._found:
            parts = (
                f"{count} × {kind} ({os.path.relpath(path, folder)})" for kind, (count, path) in self._found.items()
            )
            warnings.warn(f"skipped in {folder}: {'; '.join(parts)}", stacklevel=2)


def class_names(split: Path, skipped: Skipped) -> list[str]:
    """The names of the folders of a split that are classes, in order."""
    names = []
    for entry in _entries(split):
        if not _is_folder(entry):
            if _has_suffix(entry.name):
                skipped.add(STRAY_IMAGES, entry.path)
        elif entry.name.startswith(OF_TOOLS):
            skipped.add(TOOL_FOLDERS, entry.path)
        else:
            names.append(entry.name)
    return names


def images_below(folder: Path, skipped: Skipped) -> list[ImageFile]:
    """The images at any depth below a folder that has no classes, in the order of their names, which are relative.

    Files that are left out are added to `skipped`. Raises OSError for a folder that cannot be read.
    """
    root = Path(os.path.realpath(folder))
    files = Walk(root, {root: ["."]}, skipped).files(root, ".")
    return [file._replace(name=os.path.relpath(file.name)) for file in files]


class Walk:
    """Finds the images of all classes of both splits, such that no image is in two classes or splits.

    A link to a folder elsewhere is followed, once in a class. A link into a class or a split of these data, or to a
    folder above one, is left out, and so is a link to a file of another class or split.

    Args:
        root: the folder of the data.
        splits: the folders of the splits, with the names of their classes.
        skipped: collects what is left out.

    Raises:
        ValueError: a class is a link into the data or to a folder above them.
    """

    def __init__(self, root: Path, splits: dict[Path, list[str]], skipped: Skipped) -> None:
        self._skipped = skipped
        self._own = {os.path.realpath(split) for split in splits}
        above = {os.path.realpath(root), *self._own}
        for split, names in splits.items():
            for name in names:
                real = os.path.realpath(split / name)
                if os.path.islink(split / name) and (_within_any(real, self._own) or _holds_any(real, above)):
                    raise ValueError(f"{split / name} is a link to {real}, a folder of the same data or above them")
                self._own.add(real)
        self._own_and_root = {*self._own, os.path.realpath(root)}
        self._is_foreign = lru_cache(maxsize=4096)(self._is_foreign_folder)

    def files(self, split: Path, name: str) -> list[ImageFile]:
        """The images of a class, in the order of their names. Raises OSError for a folder that cannot be read."""
        own = os.path.realpath(split / name)
        found = self._below(split / name, name, own, own, {own})
        return sorted(found, key=lambda file: file.name.split(os.sep))

    def _below(self, folder: Path | str, name: str, real: str, own: str, visited: set[str]) -> Iterator[ImageFile]:
        """Images below a folder: `name` is its name in the split, `real` its real path, `own` that of the class."""
        for entry in _entries(folder):
            inner, is_link = f"{name}{os.sep}{entry.name}", entry.is_symlink()
            if _is_folder(entry):
                target = os.path.realpath(entry.path) if is_link else f"{real}{os.sep}{entry.name}"
                if entry.name.startswith(OF_TOOLS):
                    self._skipped.add(TOOL_FOLDERS, entry.path)
                elif target in visited or (is_link and self._leads_back(target)):
                    self._skipped.add(LINKS, entry.path)
                else:
                    visited.add(target)
                    yield from self._below(entry.path, inner, target, own, visited)
            elif not _has_suffix(entry.name):
                if not entry.name.startswith("."):
                    self._skipped.add(OTHER_FILES, entry.path)
            elif entry.name.startswith("."):
                self._skipped.add(HIDDEN_IMAGES, entry.path)
            elif is_link and self._is_foreign(os.path.dirname(os.path.join(real, os.readlink(entry.path))), own):
                self._skipped.add(LINKS, entry.path)
            else:
                yield ImageFile(inner, _size(entry))

    def _leads_back(self, target: str) -> bool:
        return _within_any(target, self._own) or _holds_any(target, self._own_and_root)

    def _is_foreign_folder(self, folder: str, own: str) -> bool:
        """Whether a folder belongs to another class or split than the class whose real path is `own`."""
        real = os.path.realpath(folder)
        return not _within_any(real, {own}) and _within_any(real, self._own)


def _within_any(path: str, folders: Collection[str]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)


def _holds_any(folder: str, paths: Collection[str]) -> bool:
    return any(_within_any(path, [folder]) for path in paths)


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """The entries of a folder, sorted by name, as the order of the system differs between disks."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return -1


def _has_suffix(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)
