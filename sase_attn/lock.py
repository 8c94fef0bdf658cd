"""Locks between processes, which the system releases when their holder dies; and exclusive use of a folder."""

import errno
import os
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakSet

from sase_attn import system_lock

NAME = ".lock"
"""Name of the lock file in a folder that one process uses."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # errors of file systems without locks


class InUseError(FileExistsError):
    """Another process, or another thread of this one, works on a folder."""


class NoLocksError(OSError):
    """The file system has no locks, without which several processes cannot share a folder."""


class Lock:
    """An advisory lock on a file. The file says who holds the lock, and is removed when the lock is released."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        _LOCKS.add(self)

    def acquire(self, *, wait: bool) -> bool:
        """Try to take the lock, or wait for it; return whether it is now held.

        Raises:
            NoLocksError: the file system has no locks. OSError: the file cannot be made or opened.
        """
        while True:
            file = self._open()
            held = False
            try:
                held = self._take(file, wait)
                held = held and self._names(file)
                if held:
                    self._file = file
                    self._sign()
                    return True
                if not wait and self._names(file):
                    return False
            finally:
                if not held:  # the previous holder has just removed the file, or still holds the lock
                    os.close(file)

    def release(self) -> None:
        """Release the lock, if it is held."""
        file, self._file = self._file, None
        if file is None:
            return
        if not system_lock.REMOVES_OPEN_FILES:
            system_lock.close(file)
            with suppress(OSError):  # the next holder may have opened the file already
                self._path.unlink()
            return
        with suppress(OSError):
            if self._names(file):
                self._path.unlink()
        system_lock.close(file)

    def forget(self) -> None:
        """Close the file in a forked process without releasing the lock, which stays with the parent."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def holder(self) -> str:
        """A description of the process that holds the lock."""
        try:
            return self._path.read_text(encoding="utf-8").strip() or "another process"
        except (OSError, ValueError):
            return "another process"

    @property
    def is_left(self) -> bool:
        """Whether the file exists although no process holds the lock, because its holder died."""
        try:
            file = self._open(os.O_RDWR)
        except OSError:
            return False
        held = False
        try:
            held = system_lock.take(file, wait=False)
        except OSError:  # the file system has no locks
            pass
        finally:
            system_lock.close(file) if held else os.close(file)
        return held

    def _open(self, flags: int = os.O_RDWR | os.O_CREAT) -> int:
        try:
            return os.open(self._path, flags, 0o666)
        except PermissionError as error:
            try:
                return os.open(self._path, os.O_RDONLY)  # a file of another user
            except FileNotFoundError:
                raise error from None

    def _take(self, file: int, wait: bool) -> bool:
        """Lock an open file; return whether it is locked. On a file system without locks, remove an empty lock file."""
        try:
            return system_lock.take(file, wait=wait)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            with suppress(OSError):
                if not os.fstat(file).st_size:
                    self._path.unlink()
            words = "this file system has no locks, which several processes need: wanted a folder on another one"
            raise NoLocksError(error.errno, words, str(self._path.parent)) from None

    def _names(self, file: int) -> bool:
        """Whether the path still names the open file."""
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False

    def _sign(self) -> None:
        assert self._file is not None
        with suppress(OSError):  # the file may be read-only, or the disk full: the holder is then not named
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())


_LOCKS: "WeakSet[Lock]" = WeakSet()


@contextmanager
def held(lock: Lock) -> Iterator[None]:
    """Wait for the lock, and hold it within the context. Raises NoLocksError and OSError as `Lock.acquire`."""
    lock.acquire(wait=True)
    try:
        yield
    finally:
        lock.release()


@dataclass
class _Hold:
    """The thread of this process that uses a folder, how many contexts it is in, and the lock, if there is one."""

    thread: int
    lock: Lock | None
    entered: int = 1


_HOLDS: dict[Path, _Hold] = {}
_LOOKING = threading.Lock()


@contextmanager
def one_process(folder: Path, *, create: bool = True) -> Iterator[None]:
    """Within the context, this thread alone uses a folder; it may enter the context again.

    The lock is a file inside the folder, so that two paths to one folder share it, and it moves with the folder. A lock
    that a dead process held is taken over. There is no lock in a folder that cannot be written to, or on a file system
    without locks, for which there is a warning.

    Args:
        folder: the folder to use, such as that of a run.
        create: make the folder if it does not exist, and remove it at the end if it is still empty.

    Raises:
        InUseError: another process or thread uses the folder; the message says which.
        OSError: the folder cannot be made; a link to nowhere is not followed.
    """
    if folder.exists() and not folder.is_dir() or not (create or folder.is_dir()):
        yield  # there is no folder to lock
        return
    with _holding(folder, NAME, named=folder):
        yield


@contextmanager
def one_writer(target: Path) -> Iterator[None]:
    """Like `one_process`, for a file or folder that is written beside its final place; so the lock lies beside it."""
    target = target.resolve()
    with _holding(target.parent, f".{target.name}.lock", named=target):
        yield


@contextmanager
def _holding(folder: Path, name: str, *, named: Path) -> Iterator[None]:
    thread = threading.get_ident()
    with _LOOKING:
        made = _make(folder)
        key = folder.resolve() / name
        hold = _HOLDS.get(key)
        if hold is None:
            hold = _HOLDS[key] = _Hold(thread, _locked(folder, name, named))
        elif hold.thread == thread:
            hold.entered += 1
        else:
            raise _in_use(named, "another thread of this process")
    try:
        yield
    finally:
        with _LOOKING:
            hold.entered -= 1
            if not hold.entered:
                _HOLDS.pop(key, None)
                if hold.lock is not None:
                    hold.lock.release()
                for path in made:
                    with suppress(OSError):  # the folder is not empty
                        path.rmdir()


def _make(folder: Path) -> list[Path]:
    """Make a folder and its parents; return the new ones, the innermost first."""
    if folder.is_symlink() and not folder.exists():
        raise FileNotFoundError(
            f"{folder} is a link to {folder.readlink()}, which does not exist: make it, or name another"
        )
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return made


def _locked(folder: Path, name: str, named: Path) -> Lock | None:
    """Take the lock of this name in a folder; None where no lock is possible. Raises InUseError."""
    lock = Lock(folder / name)
    while True:
        try:
            if not lock.acquire(wait=False):
                raise _in_use(named, lock.holder)
            return lock
        except FileNotFoundError:  # another process that failed has just removed the folder
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            no_locks = isinstance(error, NoLocksError)
            if isinstance(error, InUseError) or not (no_locks or error.errno in (errno.EACCES, errno.EROFS)):
                raise
            if no_locks:
                warnings.warn(f"{folder}: this file system has no locks; start no second process on it", stacklevel=2)
            return None


def _in_use(folder: Path, holder: str) -> InUseError:
    return InUseError(f"{folder} is in use by {holder}: wait for it, or name another")


def _forget_all() -> None:
    """Drop the parent's locks in a forked process, such as a DataLoader worker."""
    global _LOOKING
    for lock in list(_LOCKS):
        lock.forget()
    _HOLDS.clear()
    _LOOKING = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
