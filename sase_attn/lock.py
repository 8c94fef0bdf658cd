"""A lock between processes that the system gives back when its holder dies."""

import os
from pathlib import Path


class Lock:
    """An advisory lock on a file; POSIX systems only.

    Raises:
        ImportError: the system has no `fcntl`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def acquire(self, *, wait: bool) -> bool:
        """Take the lock, waiting for it or not; returns whether it is now held."""
        import fcntl

        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(file)
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
