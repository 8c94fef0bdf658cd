"""Atomic writing of files, and JSON files whose errors name the file."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast
from uuid import uuid4

from sase_attn.errors import UnknownNameError

T = TypeVar("T")
DEPTH = 50
"""The deepest nesting of JSON that is read; the package writes fewer than ten levels."""


def temporary_beside(path: Path) -> Path:
    """A new temporary name beside a file or folder, under which to write it before it is renamed."""
    return path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")


def is_temporary(path: Path, of: str | None = None) -> bool:
    """Whether `temporary_beside` made this name: for any file or folder, or for the one that is named `of`."""
    name = ".+" if of is None else re.escape(of)
    return re.fullmatch(rf"\.{name}\.[0-9a-f]{{8}}\.tmp", path.name) is not None


def remove_temporaries(folder: Path, of: str | None = None) -> None:
    """Remove temporary files that a killed process left in a folder to which no other process is writing such files."""
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
        path: the path of the file.
        content: text, written as UTF-8; bytes; or a function that writes to the open binary file that it is given.

    Raises:
        OSError: the file cannot be written; also if the function turned that error into another one.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        with naming(path), temporary.open("xb") as file:
            if callable(content):
                watched = _Watched(file)
                try:
                    content(cast(BinaryIO, watched))
                except Exception:
                    if watched.error is not None:
                        raise watched.error from None
                    raise
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        with naming(path):
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


class _Watched:
    """An open file that remembers a failed write: `torch.save` raises another error instead, without the reason."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Within the context, an OSError names this path if it named no file (as for a full disk) or a temporary one."""
    try:
        yield
    except OSError as error:
        named = error.filename
        places = [] if named is None else [Path(os.fsdecode(named)), *Path(os.fsdecode(named)).parents]
        if error.errno is not None and (not places or any(is_temporary(place, path.name) for place in places)):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """A value as JSON without escapes for non-ASCII letters; characters that UTF-8 cannot encode are escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomically(path, json_text(value) + "\n")


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: the text is no JSON, or nested more than `DEPTH` levels deep.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"wanted JSON of at most {DEPTH} levels, got more") from None
    level = [value]
    for _ in range(DEPTH):
        level = [inner for item in level for inner in _inner(item)]
        if not level:
            return value
    raise ValueError(f"wanted JSON of at most {DEPTH} levels, got more")


def _inner(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def read_json(path: str | os.PathLike[str], build: Callable[[Any], T]) -> T:
    """Read a JSON file, and return what `build` makes of its value.

    Raises:
        OSError: the file cannot be read.
        UnknownNameError, ValueError: the file is no JSON, or `build` raised this; the message begins with its name.
    """
    path = Path(path)
    try:
        return build(parse_json(path.read_bytes()))
    except UnknownNameError as error:
        raise UnknownNameError(f"{path}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_json_lines(path: str | os.PathLike[str], build: Callable[[Any], T]) -> list[T]:
    """Read a file of JSON lines, and return what `build` makes of each; a last line that was cut off is skipped.

    Raises:
        OSError: the file cannot be read.
        UnknownNameError, ValueError: a line is no JSON, or `build` raised this; the message names file and line.
    """
    path, found = Path(path), []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            found.append(build(parse_json(line)))
        except UnknownNameError as error:
            raise UnknownNameError(f"{path}, line {number}: {error}") from None
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    return found


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
