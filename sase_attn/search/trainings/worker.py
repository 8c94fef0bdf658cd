"""`Worker`: a process that trains for a search. It sends heartbeats, and detects workers that no longer do."""

import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from sase_attn.lock import Lock
from sase_attn.search.trainings.ledger import BEAT, LEASE, OVER, WORKER, Ledger

WORKERS = "workers"
"""The folder of the lock files of workers, whose locks the system releases when a worker dies."""
BEATS = 4
"""Number of heartbeats of a worker in the time of a lease."""
DIED = "its worker died"


class Watch:
    """Which leases have run out, by this process's own clock: clocks of other machines may be wrong.

    A lease runs from the last new heartbeat. If this process was itself suspended, it knows nothing of that time, and
    starts each lease again.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[object, float]] = {}
        self._looked = -float("inf")

    def look(self, trials: Iterable[Any], now: float) -> set[int]:
        """The ids of the trials whose lease has run out.

        Args:
            trials: all running trials.
            now: the time in seconds by a monotonic clock.
        """
        away, self._looked = now - self._looked, now
        seen, self._seen = self._seen, {}
        over = set()
        for trial in trials:
            beat, lease = trial.user_attrs[BEAT], trial.user_attrs[LEASE]
            before, since = seen.get(trial._trial_id, (None, now))
            since = since if before == beat and away < lease / 2 else now
            self._seen[trial._trial_id] = (beat, since)
            if now - since > lease:
                over.add(trial._trial_id)
        return over


class Worker:
    """A worker of a search, as a context in which a thread writes heartbeats to each trial that the worker holds.

    Args:
        ledger: the ledger of the search.
        folder: the folder of the search.
        lease: seconds without a heartbeat after which others take over what this worker trains.
    """

    def __init__(self, ledger: Ledger, folder: Path, lease: float) -> None:
        self._ledger, self._folder, self.lease = ledger, folder / WORKERS, lease
        self.host = socket.gethostname()
        self.name = f"{self.host}-{os.getpid()}-{uuid4().hex[:8]}"
        self._lock = Lock(self._file(self.name))
        self._held: set[int] = set()
        self._lost: set[int] = set()
        self._over: set[int] = set()
        self._watch, self._beat, self._end = Watch(), 0, threading.Event()
        self._thread = threading.Thread(target=self._beats, name="beats", daemon=True)

    def __enter__(self) -> Self:
        self._folder.mkdir(exist_ok=True)
        self._lock.acquire(wait=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self._lock.release()

    @contextmanager
    def holding(self, trial: int) -> Iterator[None]:
        """A context in which the worker sends heartbeats for a trial."""
        self._held.add(trial)
        try:
            yield
        finally:
            self._held.discard(trial)

    def has_lost(self, trial: int) -> bool:
        """Whether another worker has given up a trial that this worker holds."""
        return trial in self._lost

    def take_from_the_dead(self, running: Iterable[Any]) -> bool:
        """Give up trials whose workers are gone, so that others may claim them. Returns whether there were any."""
        found = False
        for trial in running:
            if self._has_died(trial.user_attrs[WORKER]):
                found |= self._ledger.give_up(trial._trial_id, DIED)
            elif trial._trial_id in self._over:
                found |= self._ledger.give_up(trial._trial_id, OVER)
        return found

    def _has_died(self, name: str) -> bool:
        """Whether a worker of this machine is gone, as nobody holds its lock. Workers elsewhere only have leases."""
        return name != self.name and name.startswith(f"{self.host}-") and Lock(self._file(name)).is_left

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.lock"

    def _beats(self) -> None:
        while not self._end.wait(self.lease / BEATS):
            self._beat += 1
            try:
                for trial in list(self._held):
                    if not self._ledger.note(trial, **{BEAT: self._beat}):
                        self._lost.add(trial)
                others = [t for t in self._ledger.running(self._ledger.trials()) if t._trial_id not in self._held]
                self._over = self._watch.look(others, time.monotonic())
            except (OSError, ValueError):
                self._over = set()  # try again at the next beat; the thread that trains reports a lasting error
