"""`Loop`: the training loop of `train`, with steps of a `Trainer` and an evaluation on test images after each epoch."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sase_attn.modules import count_parameters
from sase_attn.quoting import command
from sase_attn.training.balance import balance
from sase_attn.training.checkpoint import (
    NORMALISATION,
    Checkpoint,
    Normalisation,
    TrainProgress,
    saved_normalisation,
)
from sase_attn.training.data import DataInfo, Loader
from sase_attn.training.data.normalise import normalise_as_trained
from sase_attn.training.distributed import Ranks
from sase_attn.training.evaluate import Metrics, evaluate
from sase_attn.training.network import create_network, normalised_by_model
from sase_attn.training.pace import pace_text
from sase_attn.training.recipes import Recipe
from sase_attn.training.result import TrainResult, read_result, write_result
from sase_attn.training.resumable import ResumableLoop, StepReport
from sase_attn.training.saved_model import save_model, save_weights
from sase_attn.training.step import Trainer

Data = tuple[Loader, Loader, DataInfo]


class Loop(ResumableLoop[Recipe, TrainProgress, tuple[Tensor, Tensor]]):
    """One run of `train`; `finish` writes its result.

    Args:
        recipe: the recipe.
        folder: the folder for the files.
        ranks: the processes of the run.
        data: train loader, test loader and their description.
        model: the network to train; by default the recipe's.
        echo: called with each line of progress.
        saved: the checkpoint to continue from. The recipe's network is then made without `init_from`, whose file may no
            longer exist.
    """

    SETTINGS_NAME = "recipe"

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        ranks: Ranks,
        data: Data,
        model: nn.Module | None,
        echo: Callable[[str], object],
        saved: Checkpoint[Recipe, TrainProgress] | None = None,
    ) -> None:
        train_loader, test_loader, info = data
        if model is None:
            start = recipe if saved is None else recipe.override(init_from=None)
            model = create_network(
                start, num_classes=len(info.classes), in_chans=info.channels, classes=info.classes, echo=echo
            )
            if normalised_by_model(recipe):
                if saved is not None:
                    cfg: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
                    model.pretrained_cfg = cfg | asdict(saved_normalisation(saved))  # type: ignore[assignment]
                train_loader, test_loader, info = normalise_as_trained(model, (train_loader, test_loader), info)
        super().__init__(
            recipe,
            folder,
            ranks,
            echo,
            TrainProgress(),
            data=info.identity,
            steps_per_epoch=train_loader.batches,
            checkpoint_every=recipe.checkpoint_every,
        )
        self.train_loader, self.test_loader, self.info = train_loader, test_loader, info
        weights = balance(recipe, train_loader, info, echo)
        self.trainer = Trainer(recipe, model, ranks, train_loader.batches, weights)
        self.metrics: Metrics | None = None
        self._last_finite = math.nan

    @property
    def lr(self) -> float:
        """The largest learning rate of the last step."""
        return self.trainer.lr

    @property
    def resume_command(self) -> str:
        """The command that continues the run after an interruption."""
        return command("train", "--output", self.folder, "--resume")

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and targets of the current epoch, from the current step on."""
        return self.train_loader.epoch(self.progress.epoch, start=self.progress.step)

    def step(self, batch: tuple[Tensor, Tensor]) -> StepReport:
        """One optimizer step. Raises FloatingPointError if the loss is not finite."""
        loss, count, stop = self.trainer.step(*batch, stop=self.interrupt.asked)
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss}", self.progress.step + 1)
        self._last_finite = loss
        self.progress.loss_sum += loss * count
        self.progress.loss_count += count
        return StepReport(count, stop, {"loss": loss})

    def end_epoch(self) -> None:
        """Evaluate on the test images, and keep the weights if they are the best so far."""
        progress, metrics = self.progress, self._evaluate()
        if metrics.top1 >= progress.best_top1:  # of equally good epochs, keep the last
            progress.best_top1, progress.best_epoch = metrics.top1, progress.epoch
            if self.ranks.is_main:
                save_weights(self.trainer.eval_model, self.folder / "best.safetensors", self.settings, self.info)
        row = self.write(
            "epoch",
            loss=progress.loss_sum / progress.loss_count,
            test_loss=metrics.loss,
            top1=metrics.top1,
            top5=metrics.top5,
            best_top1=progress.best_top1,
        )
        self.echo(
            f"epoch {progress.epoch + 1}/{self.settings.epochs}  lr {row['lr']:.4g}  "
            f"loss {row['loss']:.4f}  test loss {metrics.loss:.4f}  "
            f"top-1 {metrics.top1:.2f} %  top-5 {metrics.top5:.2f} %  {pace_text(row)}"
        )
        self.metrics = metrics

    def state_dict(self) -> dict[str, Any]:
        """The state of the trainer, and how images are normalised."""
        seen = Normalisation(tuple(self.info.mean), tuple(self.info.std))
        return self.trainer.state_dict() | {NORMALISATION: asdict(seen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint. Raises ValueError if it belongs to another network."""
        self.trainer.load_state_dict(state)

    def save(self) -> None:
        """Replace the checkpoint. Raises FloatingPointError if a weight is not finite."""
        if not self.trainer.is_finite():
            raise self._diverged("a weight is no longer finite", self.progress.step)
        super().save()

    def finish(self) -> TrainResult:
        """Write the trained model and the result, on the main process; every process returns the result."""
        metrics = self.metrics or self._evaluate()
        if self.ranks.is_main:
            problem = save_model(self.trainer.eval_model, self.folder, self.settings, self.info, metrics)
            if problem:
                self.echo(f"wrote model.safetensors instead of model/: {problem}")
            write_result(
                self.folder,
                self.settings,
                metrics,
                parameters=count_parameters(self.trainer.model),
                data=self.info.identity,
                device=self.ranks.device,
                processes=self.ranks.world_size,
                best_top1=self.progress.best_top1,
                best_epoch=self.progress.best_epoch,
                seconds=round(self.progress.seconds, 2),
            )
        self.ranks.wait()
        result = read_result(self.folder)
        assert result is not None
        return result

    def _evaluate(self) -> Metrics:
        start = time.perf_counter()
        self.trainer.sync_running_statistics()
        metrics = evaluate(self.trainer.eval_model, self.test_loader.epoch(0), self.ranks)
        self.pace.pause(time.perf_counter() - start)
        return metrics

    def _diverged(self, what: str, step: int) -> FloatingPointError:
        return FloatingPointError(
            f"{what} at epoch {self.progress.epoch + 1}, step {step} (last finite loss: "
            f"{self._last_finite:.6g}); try a lower lr or clip_grad; the checkpoint in {self.folder} is from before"
        )
