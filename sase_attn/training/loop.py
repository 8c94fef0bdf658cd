"""The training loop: epochs of steps, evaluation, log, checkpoints; resumable bit for bit on CPU."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from sase_attn.files import write_atomically
from sase_attn.training import checkpoint, log
from sase_attn.training.checkpoint import Progress
from sase_attn.training.data.config import DataInfo, Loader
from sase_attn.training.data.normalise import as_trained, is_by_model
from sase_attn.training.distributed import Ranks
from sase_attn.training.evaluate import Metrics, evaluate
from sase_attn.training.interrupt import Interrupt
from sase_attn.training.network import create_network
from sase_attn.training.recipes import Recipe
from sase_attn.training.result import TrainResult, read_result, save_model, save_weights, write_result
from sase_attn.training.step import Trainer

Data = tuple[Loader, Loader, DataInfo]


class Loop:
    """One run of `train`, with what its parts share."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        group: Ranks,
        data: Data,
        model: nn.Module | None,
        echo: Callable[[str], object],
    ) -> None:
        self.recipe, self.folder, self.ranks, self.echo = recipe, folder, group, echo
        batches, tests, info = data
        if model is None:
            model = create_network(recipe, num_classes=len(info.classes), in_chans=info.channels, echo=echo)
            if is_by_model(recipe):
                batches, tests, info = as_trained(model, (batches, tests), info)
        self.batches, self.test_batches, self.info = batches, tests, info
        self.trainer = Trainer(recipe, model, group, batches.batches)
        self.progress = Progress()
        self.last_finite = math.nan

    def run(self, saved: tuple[dict[str, Any], Progress, Recipe] | None) -> TrainResult:
        if saved is not None:
            self.trainer.load_state_dict(saved[0])
            self.progress = saved[1]
            self.echo(f"resuming at epoch {self.progress.epoch + 1}, step {self.progress.step}")
        steps = self.recipe.epochs * self.batches.batches
        self.pace = log.Pace(self.ranks.device, steps - self.trainer.updates)
        self.before = self.progress.seconds
        self.start = time.perf_counter()
        self.log = None
        if self.ranks.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / "recipe.json", self.recipe.to_json() + "\n")
            self.log = log.Log(self.folder, self.progress.log_bytes)
        try:
            if saved is None:
                self.save()
            metrics = None
            with Interrupt() as interrupt:
                while self.progress.epoch < self.recipe.epochs:
                    metrics = self.epoch(interrupt)
        finally:
            if self.log is not None:
                self.log.close()
        return self.finish(metrics or self.evaluate())

    def epoch(self, interrupt: Interrupt) -> Metrics:
        """The rest of an epoch, its evaluation, and the checkpoint at its end."""
        progress, recipe, total = self.progress, self.recipe, self.batches.batches
        batches = log.progress_bar(
            self.batches.epoch(progress.epoch, start=progress.step),
            total=total,
            start=progress.step,
            title=f"epoch {progress.epoch + 1}/{recipe.epochs}",
            show=self.ranks.is_main,
        )
        for images, targets in batches:
            loss, count, stop = self.trainer.step(images, targets, stop=interrupt.asked)
            if not math.isfinite(loss):
                raise self.diverged(f"the loss is {loss}", progress.step + 1)
            self.last_finite = loss
            progress.step += 1
            progress.loss_sum += loss * count
            progress.loss_count += count
            self.pace.step(count)
            if recipe.log_every and progress.step % recipe.log_every == 0:
                self.write("step", loss)
            if stop or (recipe.checkpoint_every and progress.step % recipe.checkpoint_every == 0):
                self.save()
            if stop:
                self.interrupted()
        if progress.step != total:
            raise ValueError(f"the training data gave {progress.step} batches in an epoch; wanted {total}")
        metrics = self.evaluate()
        if metrics.top1 > progress.best_top1:
            progress.best_top1, progress.best_epoch = metrics.top1, progress.epoch
            if self.ranks.is_main:
                save_weights(self.trainer.evaluated, self.folder / "best.safetensors", recipe)
        tested = {
            "test_loss": metrics.loss,
            "top1": metrics.top1,
            "top5": metrics.top5,
            "best_top1": progress.best_top1,
        }
        row = self.write("epoch", progress.loss_sum / progress.loss_count, **tested)
        self.echo(log.epoch_line(row, recipe.epochs))
        progress.epoch, progress.step, progress.loss_sum, progress.loss_count = progress.epoch + 1, 0, 0.0, 0
        self.save()
        if self.ranks.sum(interrupt.asked)[0] and progress.epoch < recipe.epochs:
            self.interrupted()
        return metrics

    def evaluate(self) -> Metrics:
        start = time.perf_counter()
        self.trainer.share_norms()
        metrics = evaluate(self.trainer.evaluated, self.test_batches.epoch(0), self.ranks)
        self.pace.pause(time.perf_counter() - start)
        return metrics

    def write(self, kind: str, loss: float, **values: float) -> dict[str, Any]:
        """A line of the log: where, learning rate, loss, what else was measured, and the pace."""
        place = {"kind": kind, "epoch": self.progress.epoch, "step": self.progress.step, "lr": self.trainer.lr}
        row = {**place, "loss": loss, **values, **self.pace.report(), "seconds": round(self.seconds(), 2)}
        if self.log is not None:
            self.log.write(**row)
        return row

    def seconds(self) -> float:
        """Time of training and evaluation so far, over all sessions."""
        return self.before + time.perf_counter() - self.start

    def save(self) -> None:
        """Replace the checkpoint; the log is on disk first."""
        if not self.trainer.is_finite():
            raise self.diverged("a weight is no longer finite", self.progress.step)
        if self.log is not None:
            self.progress.log_bytes = self.log.sync()
            self.progress.seconds = self.seconds()
            checkpoint.save(self.folder, self.trainer.state_dict(), self.progress, self.recipe)

    def diverged(self, what: str, step: int) -> FloatingPointError:
        return FloatingPointError(
            f"{what} at epoch {self.progress.epoch + 1}, step {step} (last finite loss: "
            f"{self.last_finite:.6g}); try a lower lr or clip_grad; the checkpoint in {self.folder} is from before"
        )

    def interrupted(self) -> None:
        self.echo(f"stopped at epoch {self.progress.epoch + 1}, step {self.progress.step}, and saved; go on with")
        self.echo(f"sase-attn train --output {self.folder} --resume")
        raise KeyboardInterrupt

    def finish(self, metrics: Metrics) -> TrainResult:
        progress = self.progress
        if self.ranks.is_main:
            problem = save_model(self.trainer.evaluated, self.folder, self.recipe, self.info, metrics)
            if problem:
                self.echo(f"wrote model.safetensors instead of model/: {problem}")
            result = write_result(
                self.folder,
                self.recipe,
                metrics,
                device=self.ranks.device,
                processes=self.ranks.world_size,
                best_top1=progress.best_top1,
                best_epoch=progress.best_epoch,
                seconds=round(progress.seconds, 2),
            )
        self.ranks.wait()
        if self.ranks.is_main:
            return result
        finished = read_result(self.folder)
        assert finished is not None
        return finished
