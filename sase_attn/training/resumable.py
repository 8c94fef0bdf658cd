"""`ResumableLoop`: epochs of steps with a log, checkpoints and a clean stop. `train` and `search` define the steps.

It saves at the start, after each epoch, every `checkpoint_every` steps, and on Ctrl-C or SIGTERM. Batches are a
function of seed and epoch, and random draws of seed, step and rank (`Ranks.seed_step`). A resumed run therefore has
the same results as one that was never stopped, on the CPU bit for bit.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from sase_attn.errors import in_words
from sase_attn.files import write_atomically
from sase_attn.training import checkpoint, log
from sase_attn.training.checkpoint import DATA, Checkpoint, Progress, save_checkpoint
from sase_attn.training.data.identity import DataIdentity
from sase_attn.training.distributed import Ranks
from sase_attn.training.interrupt import Interrupt
from sase_attn.training.log import Log
from sase_attn.training.pace import Pace, ProgressBar


class LoopSettings(Protocol):
    """The fields of a recipe, or of a search's configuration, that the loop reads."""

    @property
    def epochs(self) -> int:
        """Passes over the data."""
        ...

    @property
    def log_every(self) -> int:
        """Steps between two lines of the log; 0 for one line in each epoch."""
        ...

    def to_json(self) -> str:
        """All fields as a JSON object."""
        ...


class StepReport(NamedTuple):
    """The result of a step: images over all ranks, whether any rank was asked to stop, and values for the log."""

    images: int
    stop: bool
    values: dict[str, Any]


S = TypeVar("S", bound=LoopSettings)
P = TypeVar("P", bound=Progress)
B = TypeVar("B")


class ResumableLoop(ABC, Generic[S, P, B]):
    """The skeleton of a run. The main process writes the settings as JSON, `log.jsonl` and `checkpoint.pt`.

    Args:
        settings: the settings of the run, which each checkpoint holds.
        folder: the folder for the files, which is created.
        ranks: the processes of the run.
        echo: called with each line of progress.
        progress: the progress of a new run.
        data: the identity of the data, which each checkpoint holds.
        steps_per_epoch: the number of batches that `batches` yields in a whole epoch.
        checkpoint_every: also save after each this many steps; 0 for the ends of epochs only.
    """

    SETTINGS_NAME: ClassVar[str]  # name of the settings' file, and their key in a checkpoint
    ROUND: ClassVar[str] = "epoch"  # what an epoch is called in messages

    def __init__(
        self,
        settings: S,
        folder: Path,
        ranks: Ranks,
        echo: Callable[[str], object],
        progress: P,
        *,
        data: DataIdentity,
        steps_per_epoch: int,
        checkpoint_every: int = 0,
    ) -> None:
        self.settings, self.folder, self.ranks, self.echo = settings, folder, ranks, echo
        self.progress, self._identity = progress, data
        self.steps_per_epoch, self.checkpoint_every = steps_per_epoch, checkpoint_every
        self.interrupt = Interrupt()
        self._log: Log | None = None
        self._start = self._seconds_before = 0.0

    @abstractmethod
    def batches(self) -> Iterable[B]:
        """The batches of the current epoch, from the current step on."""

    @abstractmethod
    def step(self, batch: B) -> StepReport:
        """One step of training. Raises an error if it diverged: the checkpoint is then from before."""

    @abstractmethod
    def end_epoch(self) -> None:
        """Evaluate the epoch, `write` its numbers to the log, and `echo` a line."""

    @property
    @abstractmethod
    def lr(self) -> float:
        """The learning rate of the last step."""

    @property
    @abstractmethod
    def resume_command(self) -> str:
        """The command that continues the run after an interruption."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that a step reads and changes, as tensors, numbers and strings."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave. Raises ValueError if it belongs to another network."""

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done."""
        return self.progress.epoch >= self.settings.epochs

    @property
    def global_step(self) -> int:
        """The number of steps done, over all epochs."""
        return self.progress.epoch * self.steps_per_epoch + self.progress.step

    @property
    def seconds(self) -> float:
        """Time of the run so far, including the time before it was resumed."""
        return self._seconds_before + time.perf_counter() - self._start

    def run(self, saved: Checkpoint[S, P] | None = None, extra_files: Mapping[str, str] = MappingProxyType({})) -> None:
        """Train to the end, from the start or from a checkpoint of the same settings.

        Args:
            saved: the checkpoint; None to start.
            extra_files: the texts of further files to write to the folder at the start, by file name.

        Raises:
            ValueError: the checkpoint does not fit the network, the data have another number of batches, or the network
                does not accept their images.
            FloatingPointError: the run diverged; the checkpoint is from before.
            KeyboardInterrupt: Ctrl-C or SIGTERM; a checkpoint was saved first.
            Exception: any error of a new run before its first step; the folder is then left as it was.
        """
        if saved is not None:
            self.load_state_dict(saved.state)
            self.progress = saved.progress
            if not self.is_finished:
                self.echo(f"resuming at {self.ROUND} {self.progress.epoch + 1}, step {self.progress.step}")
        self.pace = Pace(self.ranks.device, self.settings.epochs * self.steps_per_epoch - self.global_step)
        self._start, self._seconds_before = time.perf_counter(), self.progress.seconds
        files = [self._settings_file, *(self.folder / name for name in extra_files)]
        new = [path for path in files if not path.exists()]  # an earlier stage may have written files already
        if self.ranks.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._log = Log(self.folder, self.progress.log_bytes)
        try:
            if saved is None:
                self.save()  # before other files, so that a folder with files can always be resumed
            if self.ranks.is_main:
                write_atomically(self._settings_file, self.settings.to_json() + "\n")
                for name, text in extra_files.items():
                    write_atomically(self.folder / name, text)
            with self.interrupt:
                while not self.is_finished:
                    self._epoch()
        except Exception as error:
            if saved is None and self.global_step == 0 and not isinstance(error, FloatingPointError):
                self._undo_start(new)
                if _is_misfit(error):
                    words = f"the network cannot take its first step with these arguments and images: {in_words(error)}"
                    raise ValueError(words) from error
            raise
        finally:
            if self._log is not None:
                self._log.close()

    @property
    def _settings_file(self) -> Path:
        return self.folder / f"{self.SETTINGS_NAME}.json"

    def _undo_start(self, new: Iterable[Path]) -> None:
        """Remove the files of a run that failed before its first step, so that the folder can be used again."""
        if self._log is not None:
            self._log.close()
            for path in (self.folder / checkpoint.NAME, self.folder / log.NAME, *new):
                path.unlink(missing_ok=True)

    def _epoch(self) -> None:
        """The remaining steps of an epoch, its evaluation, and the checkpoint at its end."""
        progress, settings = self.progress, self.settings
        bar = ProgressBar(
            self.batches(),
            total=self.steps_per_epoch,
            start=progress.step,
            title=f"{self.ROUND} {progress.epoch + 1}/{settings.epochs}",
            show=self.ranks.is_main,
        )
        for batch in bar:
            images, stop, values = self.step(batch)
            progress.step += 1
            self.pace.step(images)
            bar.note(values, self.pace)
            if settings.log_every and progress.step % settings.log_every == 0:
                self.write("step", **values)
            if stop or (self.checkpoint_every and progress.step % self.checkpoint_every == 0):
                self.save()
            if stop:
                self._interrupted()
        if progress.step != self.steps_per_epoch:
            raise ValueError(
                f"the training data gave {progress.step} batches in an epoch; wanted {self.steps_per_epoch}"
            )
        self.end_epoch()
        progress.next_epoch()
        self.save()
        if self.ranks.sum(self.interrupt.asked)[0] and not self.is_finished:
            self._interrupted()

    def write(self, kind: str, **values: Any) -> dict[str, Any]:
        """Log a line with epoch, step, learning rate, values and pace. Returns it, on every rank."""
        place = {"kind": kind, "epoch": self.progress.epoch, "step": self.progress.step, "lr": self.lr}
        row = {**place, **values, **self.pace.report(), "seconds": round(self.seconds, 2)}
        if self._log is not None:
            self._log.write(**row)
        return row

    def save(self) -> None:
        """Replace the checkpoint; the log is on disk first."""
        if self._log is not None:
            self.progress.log_bytes, self.progress.seconds = self._log.sync(), self.seconds
            saved = Checkpoint(self.settings, self.progress, self.state_dict() | {DATA: asdict(self._identity)})
            save_checkpoint(self.folder, saved, self.SETTINGS_NAME)

    def stop_if_asked(self) -> None:
        """Raise KeyboardInterrupt if a signal came in the evaluation of the last epoch; call it after the result.

        The run itself is then complete, but its caller may have more to do.
        """
        if self.ranks.sum(self.interrupt.asked)[0]:
            self.echo(f"stopped after the last {self.ROUND}, with its result; go on with")
            self.echo(self.resume_command)
            raise KeyboardInterrupt

    def _interrupted(self) -> None:
        self.echo(
            f"stopped at {self.ROUND} {self.progress.epoch + 1}, step {self.progress.step}, and saved; go on with"
        )
        self.echo(self.resume_command)
        raise KeyboardInterrupt


def _is_misfit(error: Exception) -> bool:
    """Whether an error means that shapes do not fit the network, or that parts are missing by its arguments."""
    of_shapes = type(error) is RuntimeError and "DefaultCPUAllocator" not in str(error)  # out of memory
    return of_shapes or isinstance(error, AttributeError | TypeError | LookupError)
