"""`Desk`: chooses the next training of a worker, and records how it ended in the ledger."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sase_attn.errors import in_words
from sase_attn.quoting import counted
from sase_attn.search.trained import Plan, Trained, Training
from sase_attn.search.trainings.folders import TRAININGS, copy_run, folder_name
from sase_attn.search.trainings.ledger import FOLDER, GIVEN_UP, LEASE, OVER, SECOND, WORKER, Ledger
from sase_attn.search.trainings.worker import BEATS, Worker
from sase_attn.training.result import TrainResult

PAUSE = 1.0
"""Seconds between two looks for work, while other workers do all wanted trainings."""
SAME_FAILURES = 3
"""After this many trainings in a row with the same error message a worker stops (divergence does not count)."""
STOPPED = "it was stopped"


class LeaseLostError(RuntimeError):
    """Another worker has taken over the training, as this one sent no heartbeat for the time of a lease."""


@dataclass(frozen=True)
class Claim:
    """A training that this worker has claimed: its trial in the storage, its folder, and a folder to resume from."""

    trial: int
    training: Training
    folder: Path
    source: Path | None = None


class Desk:
    """Assigns trainings to one worker.

    Args:
        plan: decides which trainings are wanted.
        ledger: the ledger of the search.
        worker: the worker.
        folder: the folder of the search.
        echo: called with a line for each training that has ended.
    """

    def __init__(self, plan: Plan, ledger: Ledger, worker: Worker, folder: Path, echo: Callable[[str], object]) -> None:
        self._plan, self._ledger, self._worker = plan, ledger, worker
        self._folder, self._echo = folder / TRAININGS, echo
        self._asked: tuple[list[Trained], list[Training]] | None = None
        self._failures: list[str] = []
        self._waits = False

    def next(self) -> list[Trained] | Claim | None:
        """The next training; None after a pause, if others do all wanted ones; all that ended, if none is wanted."""
        trials = self._ledger.trials()
        if self._worker.take_from_the_dead(self._ledger.running(trials)):
            trials = self._ledger.trials()
        done = self._ledger.rows(trials)
        wanted = self._wanted(done)
        if not wanted:
            return done
        taken = [self._ledger.training(trial) for trial in self._ledger.running(trials)]
        if len(taken) < len(wanted):  # also counts trainings that are no longer wanted
            for training in wanted:
                if training not in taken and (claim := self._claim(training, trials)):
                    self._waits = False
                    return claim
        if not self._waits:
            self._echo(f"waiting for {counted(len(taken), 'training')} of other workers")
        self._waits = True
        time.sleep(min(PAUSE, self._worker.lease / BEATS))
        return None

    @contextmanager
    def at(self, claim: Claim) -> Iterator[None]:
        """A context in which the worker runs a training; if it ends by an error, the training is given up."""
        with self._worker.holding(claim.trial):
            try:
                if claim.source is not None:
                    copy_run(claim.source, claim.folder)
                yield
            except BaseException:
                self._ledger.give_up(claim.trial, STOPPED)
                raise

    def check_lease(self, claim: Claim) -> None:
        """Raise LeaseLostError if the training is no longer this worker's."""
        if self._worker.has_lost(claim.trial):
            raise LeaseLostError

    def record(self, claim: Claim, ended: TrainResult | Exception) -> None:
        """Record how a training ended. Raises its error if three in a row failed with the same message."""
        what = f"{claim.training.genotype}, seed {claim.training.seed}"
        if isinstance(ended, TrainResult):
            recorded = self._ledger.finish(claim.trial, ended.top1, ended.loss)
            words, line = "", f"top-1 {ended.top1:.2f} %"
        else:
            words = in_words(ended)
            recorded = not isinstance(ended, LeaseLostError) and self._ledger.fail(claim.trial, words)
            line = f"failed: {words}"
        if not recorded:
            self._echo(f"{what}: dropped, as this worker showed no life for its lease and others took the training")
            return
        self._echo(f"{what}: {line}")
        if not words:
            self._failures.clear()
            return
        self._failures.append("" if isinstance(ended, FloatingPointError) else words)
        if words and self._failures[-SAME_FAILURES:] == [words] * SAME_FAILURES:
            assert isinstance(ended, Exception)
            raise ended

    def _wanted(self, done: list[Trained]) -> list[Training]:
        """The trainings that the plan wants; it is only asked again when another training has ended."""
        if self._asked is None or self._asked[0] != done:
            ended = {row.training for row in done}
            self._asked = done, [training for training in self._plan.wanted(done) if training not in ended]
        return self._asked[1]

    def _claim(self, training: Training, trials: list[Any]) -> Claim | None:
        """Claim a training; None if another worker was first."""
        same = [trial.user_attrs for trial in trials if self._ledger.training(trial) == training]
        earlier = [attributes for attributes in same if attributes[GIVEN_UP] != SECOND]
        late = [attributes[FOLDER] for attributes in earlier if attributes[GIVEN_UP] == OVER]
        name = folder_name(training, len(late))
        attributes = {WORKER: self._worker.name, LEASE: self._worker.lease, FOLDER: name}
        trial = self._ledger.claim(training, **attributes)
        if trial is None:
            return None
        if earlier:
            self._echo(f"{training.genotype}, seed {training.seed}: goes on, as {earlier[-1][GIVEN_UP]}")
        source = self._folder / late[-1] if late else None
        return Claim(trial, training, self._folder / name, source)
