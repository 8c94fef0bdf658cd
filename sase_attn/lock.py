"""Locks between processes that the system gives back when their holder dies, and one process a folder."""

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
"""Of the file in a folder that its one process has locked."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # what file systems without locks answer


class InUseError(FileExistsError):
    """Another process, or another thread of this one, works on a folder."""


class NoLocksError(OSError):
    """A file system has no locks, which several processes need to share a folder."""


class Lock:
    """An advisory lock on a file. The file says who holds it, and goes when it is released."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        _LOCKS.add(self)

    def acquire(self, *, wait: bool) -> bool:
        """Take the lock, waiting for it or not; returns whether it is now held.

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
                if not held:  # the holder before removed the file meanwhile, or has it still
                    os.close(file)

    def release(self) -> None:
        """Give the lock back, if it is held."""
        file, self._file = self._file, None
        if file is None:
            return
        if not system_lock.REMOVES_OPEN_FILES:
            system_lock.close(file)
            with suppress(OSError):  # the next holder has it already
                self._path.unlink()
            return
        with suppress(OSError):
            if self._names(file):
                self._path.unlink()
        system_lock.close(file)

    def forget(self) -> None:
        """In a process that was forked: the lock stays with the parent."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def holder(self) -> str:
        """Who holds it, in words."""
        try:
            return self._path.read_text(encoding="utf-8").strip() or "another process"
        except (OSError, ValueError):
            return "another process"

    @property
    def is_left(self) -> bool:
        """Whether the file is there, and nobody holds the lock: its holder died."""
        try:
            file = self._open(os.O_RDWR)
        except OSError:
            return False
        held = False
        try:
            held = system_lock.take(file, wait=False)
        except OSError:  # no locks here
            pass
        finally:
            system_lock.close(file) if held else os.close(file)
        return held

    def _open(self, flags: int = os.O_RDWR | os.O_CREAT) -> int:
        try:
            return os.open(self._path, flags, 0o666)
        except PermissionError as error:
            try:
                return os.open(self._path, os.O_RDONLY)  # another user's
            except FileNotFoundError:
                raise error from None

    def _take(self, file: int, wait: bool) -> bool:
        """Lock an open file; returns whether it is locked. Where there are no locks, none is left lying about."""
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
        with suppress(OSError):  # one that may only be read, or a full disk: then it says nothing
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())


_LOCKS: "WeakSet[Lock]" = WeakSet()


@contextmanager
def held(lock: Lock) -> Iterator[None]:
    """Within the context the lock is held; it waits for it. Raises NoLocksError and OSError as `Lock.acquire`."""
    lock.acquire(wait=True)
    try:
        yield
    finally:
        lock.release()


@dataclass
class _Hold:
    """Which thread of this process has a folder, how often it has entered it, and its lock if it could have one."""

    thread: int
    lock: Lock | None
    entered: int = 1


_HOLDS: dict[Path, _Hold] = {}
_LOOKING = threading.Lock()


@contextmanager
def one_process(folder: Path, *, create: bool = True) -> Iterator[None]:
    """Within the context no other process, and no other thread, has this folder; the same thread may enter it again.

    The lock is a file inside, so that two paths to one folder share it, and of a folder that was moved it moves along.
    One that a dead process held is taken over. Where nothing may be written, or the file system has no locks (a warning
    says so), there is none.

    Args:
        folder: of a run.
        create: make a folder that does not exist; if nothing is in it at the end, it goes again.

    Raises:
        InUseError: another one has it; the message says which.
        OSError: the folder cannot be made; a link to nowhere is not followed.
    """
    if folder.exists() and not folder.is_dir() or not (create or folder.is_dir()):
        yield  # there is nothing to have
        return
    with _holding(folder, NAME, named=folder):
        yield


@contextmanager
def one_writer(target: Path) -> Iterator[None]:
    """As `one_process`, of a file, or of a folder that is written beside its place and moved there, as its lock is."""
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
                    with suppress(OSError):  # not empty
                        path.rmdir()


def _make(folder: Path) -> list[Path]:
    """Make a folder and those above it; returns the new ones, the inner first."""
    if folder.is_symlink() and not folder.exists():
        raise FileNotFoundError(
            f"{folder} is a link to {folder.readlink()}, which does not exist: make it, or name another"
        )
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return made


def _locked(folder: Path, name: str, named: Path) -> Lock | None:
    """The lock of this name in a folder, held; None where there can be none. Raises InUseError."""
    lock = Lock(folder / name)
    while True:
        try:
            if not lock.acquire(wait=False):
                raise _in_use(named, lock.holder)
            return lock
        except FileNotFoundError:  # a process that failed has just removed its folder
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
    """A forked process, such as one that loads images, holds nothing of its parent's."""
    global _LOOKING
    for lock in list(_LOCKS):
        lock.forget()
    _HOLDS.clear()
    _LOOKING = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
