"""`Desk`: what a worker does next, and what becomes of it in the ledger."""

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
"""Seconds between two looks for work, where others have all that is wanted."""
SAME_FAILURES = 3
"""Trainings in a row that a worker lets fail in the same words (one that diverges does not count)."""
STOPPED = "it was stopped"


class LeaseLostError(RuntimeError):
    """Others have given up on this worker, as it showed no life for the time of a lease."""


@dataclass(frozen=True)
class Claim:
    """A training that this worker has: its trial in the storage, its folder, and one from which to go on."""

    trial: int
    training: Training
    folder: Path
    source: Path | None = None


class Desk:
    """Work of one worker.

    Args:
        plan: what is wanted.
        ledger: of the search.
        worker: this one.
        folder: of the search.
        echo: gets a line for each training that has ended.
    """

    def __init__(self, plan: Plan, ledger: Ledger, worker: Worker, folder: Path, echo: Callable[[str], object]) -> None:
        self._plan, self._ledger, self._worker = plan, ledger, worker
        self._folder, self._echo = folder / TRAININGS, echo
        self._asked: tuple[list[Trained], list[Training]] | None = None
        self._failures: list[str] = []
        self._waits = False

    def next(self) -> list[Trained] | Claim | None:
        """A training to do; None after a pause, if others have all that is wanted; all rows, if nothing is."""
        trials = self._ledger.trials()
        if self._worker.take_from_the_dead(self._ledger.running(trials)):
            trials = self._ledger.trials()
        done = self._ledger.rows(trials)
        wanted = self._wanted(done)
        if not wanted:
            return done
        taken = [self._ledger.training(trial) for trial in self._ledger.running(trials)]
        if len(taken) < len(wanted):  # trainings that were wanted before others ended count too
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
        """Within the context the worker is at a training; one that was not recorded at its end is given up."""
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
        """Write down how a training ended. Raises its error if three in a row have failed in the same words."""
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
        """What the plan wants, which is asked only when there is news."""
        if self._asked is None or self._asked[0] != done:
            ended = {row.training for row in done}
            self._asked = done, [training for training in self._plan.wanted(done) if training not in ended]
        return self._asked[1]

    def _claim(self, training: Training, trials: list[Any]) -> Claim | None:
        """The training, if no other worker is quicker."""
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
