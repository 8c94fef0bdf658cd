"""The lock of a journal: it goes with a killed worker, and is taken from one that stands still."""

import time
from contextlib import suppress
from pathlib import Path

from sase_attn.lock import Lock

PATIENCE = 30.0
"""Seconds that one holder may have the lock for writing one line."""


class JournalLock:
    """Optuna's lock of its journal, by the system's. Optuna's own would stay with a killed worker for half a minute.

    A worker that is stopped just while it writes its line would keep the others waiting for ever. After `patience`
    seconds they do without it: what the lock guards is one append of one line.

    Args:
        folder: of the journal.
        patience: in seconds.
    """

    def __init__(self, folder: Path, patience: float = PATIENCE) -> None:
        self._path, self._patience = folder / "journal.lock", patience
        self._lock = Lock(self._path)

    def acquire(self) -> bool:
        """Wait for the lock, and take it."""
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
        """Give it back."""
        self._lock.release()
