"""Files that are whole or not there, and JSON files whose errors name the file."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from uuid import uuid4

from sase_attn.errors import UnknownNameError

T = TypeVar("T")


def temporary_beside(path: Path) -> Path:
    """A new name in the folder of a file or folder, under which it is written before it takes its own."""
    return path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")


def is_temporary(path: Path, of: str | None = None) -> bool:
    """Whether `temporary_beside` gave this name, for any file or folder or for the one of a name."""
    name = ".+" if of is None else re.escape(of)
    return re.fullmatch(rf"\.{name}\.[0-9a-f]{{8}}\.tmp", path.name) is not None


def remove_temporaries(folder: Path, of: str | None = None) -> None:
    """Remove what a killed process left under temporary names in a folder, where nobody else writes those."""
    if not folder.is_dir():
        return
    for path in [path for path in folder.iterdir() if is_temporary(path, of)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_atomically(path: str | os.PathLike[str], content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name in its folder, force it to disk, then rename it.

    A reader sees the old file or the new one, even after a loss of power. A failed write leaves the old one alone.

    Args:
        path: of the file.
        content: text, which becomes UTF-8; bytes; or a function that writes to the open binary file that it is given.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        with temporary.open("xb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomically(path, json.dumps(value, indent=2) + "\n")


def read_json(path: str | os.PathLike[str], build: Callable[[Any], T]) -> T:
    """What `build` makes of the value in a JSON file.

    Raises:
        OSError: the file cannot be read.
        UnknownNameError, ValueError: it is no JSON, or `build` raised this; the message begins with the file's name.
    """
    path = Path(path)
    try:
        return build(json.loads(path.read_text(encoding="utf-8")))
    except UnknownNameError as error:
        raise UnknownNameError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None


def _sync_folder(folder: Path) -> None:
    """Force the names in a folder to disk, where the system lets a folder be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
