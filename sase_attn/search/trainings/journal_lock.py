"""`JournalLock`: a lock for Optuna's journal that is freed if its holder is killed, or is stopped for too long."""

import time
from contextlib import suppress
from pathlib import Path

from sase_attn.lock import Lock

JOURNAL_LOCK = "journal.lock"
PATIENCE = 30.0
"""Seconds for which one holder may keep the lock to write one line."""


class JournalLock:
    """A lock for Optuna's journal by a file lock of the system. Optuna's own outlives a killed worker by half a minute.

    A worker that is stopped while it writes its line would keep the others waiting for ever. After `patience` seconds
    they write without the lock, which only guards the append of one line.

    Args:
        folder: the folder of the journal.
        patience: how long to wait for one holder, in seconds.
    """

    def __init__(self, folder: Path, patience: float = PATIENCE) -> None:
        self._path, self._patience = folder / JOURNAL_LOCK, patience
        self._lock = Lock(self._path)

    def acquire(self) -> bool:
        """Wait for the lock, and acquire it."""
        holder, since, pause = "", time.monotonic(), 0.001
        while not self._lock.acquire(wait=False):
            now = time.monotonic()
            if holder != (holder := self._lock.holder):
                since = now
            elif now - since > self._patience:
                with suppress(FileNotFoundError, PermissionError):  # the latter: Windows removes no open file
                    self._path.unlink()
                since = now
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        return True

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()
