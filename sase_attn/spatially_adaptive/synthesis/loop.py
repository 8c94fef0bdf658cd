"""`SynthesisLoop`: the run of `train_synthesis`, in rounds of steps that end with a sheet of samples and scores."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from sase_attn.modules import count_parameters
from sase_attn.quoting import command
from sase_attn.spatially_adaptive.synthesis.checkpoint import SynthesisProgress
from sase_attn.spatially_adaptive.synthesis.config import SynthesisConfig
from sase_attn.spatially_adaptive.synthesis.generator import Generator
from sase_attn.spatially_adaptive.synthesis.images import TrainingImages
from sase_attn.spatially_adaptive.synthesis.judge import Judge
from sase_attn.spatially_adaptive.synthesis.result import SynthesisResult, write_result
from sase_attn.spatially_adaptive.synthesis.saved_generator import BEST, LAST, SNAPSHOTS, save_generator
from sase_attn.spatially_adaptive.synthesis.scores import Scores
from sase_attn.spatially_adaptive.synthesis.sheets import grid, save_png
from sase_attn.spatially_adaptive.synthesis.trainer import Trainer
from sase_attn.training.checkpoint import fitting_network
from sase_attn.training.distributed import Ranks
from sase_attn.training.pace import pace_text
from sase_attn.training.resumable import ResumableLoop, StepReport

SHEET = 16  # images on a sheet of samples
SCORED = 2**32 + 1  # the seed of the images that are scored, which no run can have


class SynthesisLoop(ResumableLoop[SynthesisConfig, SynthesisProgress, Tensor]):
    """One run of `train_synthesis`; `finish` writes its result.

    Args:
        config: the settings.
        folder: the folder for all files.
        ranks: the one process of the run.
        images: the training images.
        judge: computes the scores, if any are wanted.
        echo: called with each line of output for the user.

    Raises:
        ValueError, OSError, ImportError: see `Trainer`.
    """

    SETTINGS_NAME = "config"
    ROUND = "sheet"

    def __init__(
        self,
        config: SynthesisConfig,
        folder: Path,
        ranks: Ranks,
        images: TrainingImages,
        judge: Judge | None,
        echo: Callable[[str], object],
    ) -> None:
        super().__init__(
            config,
            folder,
            ranks,
            echo,
            SynthesisProgress(),
            data=images.identity,
            steps_per_epoch=config.round_steps,
            checkpoint_every=config.checkpoint_every,
        )
        self.images, self.judge = images, judge
        self.trainer = Trainer(config, ranks.device)
        self.scores: Scores | None = None

    @property
    def lr(self) -> float:
        """The learning rate, which is constant."""
        return self.settings.lr

    @property
    def resume_command(self) -> str:
        """The command that resumes the run after an interruption."""
        return command("synthesize", "train", "--output", self.folder, "--resume")

    def batches(self) -> Iterator[Tensor]:
        """The images of each step of the round, from the current one on."""
        for step in range(self.global_step, (self.progress.epoch + 1) * self.steps_per_epoch):
            yield self.images.batch(self.settings.seed, step, self.settings.batch_size)

    def step(self, batch: Tensor) -> StepReport:
        """Train both networks for one step. Raises FloatingPointError if a loss is not finite."""
        self.ranks.seed_step(self.settings.seed, self.global_step)
        losses = self.trainer.step(batch, self.global_step + 1)
        for name, value in losses.items():
            if not math.isfinite(value):
                raise self._diverged(f"the loss {name} is {value}")
        return StepReport(len(batch), self.interrupt.asked, losses)

    def end_epoch(self) -> None:
        """Write the sheet of samples, measure scores, and save weights: the last, a few earlier, the best by KID."""
        start, step, average = time.perf_counter(), self.global_step, self.trainer.average.generator
        save_png(grid(average.sample(SHEET, self.settings.seed)), self.folder / "samples" / f"step-{step:06d}.png")
        found = {"scores": self._scores(average), "raw_scores": self._scores(self.trainer.generator)}
        self.scores = found["scores"]
        self._keep(step)
        self.pace.pause(time.perf_counter() - start)
        row = self.write("sheet", **{name: asdict(scores) for name, scores in found.items() if scores is not None})
        words = "" if self.scores is None else f"KID {self.scores.kid:.4f}  spread {self.scores.spread:.2f}  "
        self.echo(f"step {step:,}/{self.settings.steps:,}  {words}{pace_text(row)}")

    def _scores(self, generator: Generator) -> Scores | None:
        """Scores of as many images as the settings say, from latent vectors that no sheet shows."""
        if self.judge is None:
            return None
        return self.judge.score(generator.batches(self.settings.score_images, SCORED))

    def _keep(self, step: int) -> None:
        """Write the weights of this step, and remove the oldest snapshots beyond the number to keep."""
        average, scores = self.trainer.average.generator, {} if self.scores is None else asdict(self.scores)
        progress, folder = self.progress, self.folder / SNAPSHOTS
        save_generator(average, self.folder / LAST, step=step, scores=scores)
        if self.scores is not None and (progress.best_kid is None or self.scores.kid < progress.best_kid):
            progress.best_kid, progress.best_step = self.scores.kid, step
            save_generator(average, self.folder / BEST, step=step, scores=scores)
        if self.settings.keep_snapshots:
            save_generator(average, folder / f"step-{step:06d}.safetensors", step=step, scores=scores)
            for path in sorted(folder.glob("step-*.safetensors"))[: -self.settings.keep_snapshots]:
                path.unlink()

    def state_dict(self) -> dict[str, Any]:
        """The state of the trainer."""
        return self.trainer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint. Raises ValueError if it belongs to other networks."""
        with fitting_network():
            self.trainer.load_state_dict(state)

    def save(self) -> None:
        """Replace the checkpoint. Raises FloatingPointError if a weight is not finite."""
        if not self.trainer.is_finite():
            raise self._diverged("a weight is no longer finite")
        super().save()

    def finish(self) -> SynthesisResult:
        """Write the result, and return it."""
        if self.scores is None:
            self.scores = self._scores(self.trainer.average.generator)
        return write_result(
            self.folder,
            self.ranks.device,
            config=asdict(self.settings),
            steps=self.global_step,
            scores=self.scores,
            best_kid=self.progress.best_kid,
            best_step=self.progress.best_step,
            parameters=count_parameters(self.trainer.generator),
            data=self.images.identity,
            seconds=round(self.progress.seconds, 2),
        )

    def _diverged(self, what: str) -> FloatingPointError:
        return FloatingPointError(
            f"{what} at step {self.global_step + 1}; try a lower lr; the checkpoint in {self.folder} is from before"
        )
