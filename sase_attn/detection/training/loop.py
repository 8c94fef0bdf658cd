"""`DetectionLoop`: the run of `train_detector`, by steps of a `DetectionTrainer` and evaluations after each epoch."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.data import DetectionData
from sase_attn.detection.evaluation.metrics import DetectionMetrics, evaluate_detector
from sase_attn.detection.network import create_detector
from sase_attn.detection.saved import BEST, LAST, normalisation_of, save_detector, set_normalisation
from sase_attn.detection.training.checkpoint import SETTINGS_NAME, DetectionProgress
from sase_attn.detection.training.curves import draw_curves
from sase_attn.detection.training.result import DetectionResult, read_result, write_result
from sase_attn.detection.training.trainer import DetectionTrainer
from sase_attn.modules import count_parameters
from sase_attn.quoting import command
from sase_attn.training.checkpoint import NORMALISATION, Checkpoint, saved_normalisation
from sase_attn.training.distributed import Ranks
from sase_attn.training.pace import pace_text
from sase_attn.training.resumable import ResumableLoop, StepReport

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]


class DetectionLoop(ResumableLoop[DetectionConfig, DetectionProgress, Batch]):
    """One run of `train_detector`; `finish` writes its result.

    Args:
        config: the settings.
        folder: the folder for all files.
        ranks: the processes of the run.
        data: the data of both splits.
        echo: called with each line of output for the user.
        saved: the checkpoint to resume from. The network is then built without `init_from`, which may no longer exist.

    Raises:
        ValueError, OSError, HubError: see `create_detector` and `DetectionTrainer`.
    """

    SETTINGS_NAME = SETTINGS_NAME

    def __init__(
        self,
        config: DetectionConfig,
        folder: Path,
        ranks: Ranks,
        data: DetectionData,
        echo: Callable[[str], object],
        saved: Checkpoint[DetectionConfig, DetectionProgress] | None = None,
    ) -> None:
        super().__init__(
            config,
            folder,
            ranks,
            echo,
            DetectionProgress(),
            data=data.identity,
            steps_per_epoch=data.train.batches,
            checkpoint_every=config.checkpoint_every,
        )
        self.data = data
        classes = len(data.train_set.classes)
        if saved is None:
            self.model = create_detector(config, classes, echo=echo)
        else:
            self.model = create_detector(config.override(init_from=None), classes, echo=lambda line: None)
            set_normalisation(self.model, saved_normalisation(saved))
        self.trainer = DetectionTrainer(config, self.model, ranks, data.train.batches)
        self.metrics: DetectionMetrics | None = None
        self._last_finite = math.nan

    @property
    def trained_parameters(self) -> int:
        """The number of parameters that are not frozen."""
        return sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return self.trainer.lr

    @property
    def resume_command(self) -> str:
        """The command that resumes the run after an interruption."""
        return command("detect", "train", "--output", self.folder, "--resume")

    def batches(self) -> Iterator[Batch]:
        """Images and targets of the current epoch, from the current step on."""
        return self.data.train.epoch(self.progress.epoch, start=self.progress.step)

    def step(self, batch: Batch) -> StepReport:
        """One optimizer step. Raises FloatingPointError if the loss is not finite."""
        losses, images, stop = self.trainer.step(*batch, stop=self.interrupt.asked)
        if not math.isfinite(losses["loss"]):
            parts = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
            raise self._diverged(f"a loss is not finite ({parts})", self.progress.step + 1)
        self._last_finite = losses["loss"]
        self.progress.add(losses, images)
        return StepReport(images, stop, losses)

    def end_epoch(self) -> None:
        """Evaluate on the validation images, and save the weights: the last, and the best so far."""
        self.save()  # an evaluation may take long, and a run killed during it must not lose the epoch
        progress, metrics = self.progress, self._evaluate()
        self.metrics = metrics
        if metrics.best_by >= progress.best_ap:  # of equally good ones keep the last, also if there is no AP
            progress.best_ap, progress.best_epoch = metrics.best_by, progress.epoch
        if self.ranks.is_main:
            self._save_weights(LAST)
            if progress.best_epoch == progress.epoch:
                self._save_weights(BEST)
        row = self.write("epoch", **progress.losses(), metrics=asdict(metrics), best_ap=progress.best_ap)
        self.echo(
            f"epoch {progress.epoch + 1}/{self.settings.epochs}  lr {row['lr']:.4g}  loss {row['loss']:.4f}  "
            f"{metrics.line()}  {pace_text(row)}"
        )

    def _save_weights(self, name: str) -> None:
        coco = self.data.train_set
        save_detector(
            self.model,
            self.folder / name,
            self.settings,
            coco.classes,
            coco.category_ids,
            data=self.data.identity,
        )

    def state_dict(self) -> dict[str, Any]:
        """The state of the trainer, and how images are normalised."""
        return self.trainer.state_dict() | {NORMALISATION: asdict(normalisation_of(self.model))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint. Raises ValueError if it belongs to another network."""
        self.trainer.load_state_dict(state)

    def save(self) -> None:
        """Replace the checkpoint. Raises FloatingPointError if a weight is not finite."""
        if not self.trainer.is_finite():
            raise self._diverged("a weight is no longer finite", self.progress.step)
        super().save()

    def finish(self) -> DetectionResult:
        """Write the result and the curves, on the main process; every process gets the result."""
        metrics = self.metrics or self._evaluate()
        if self.ranks.is_main:
            write_result(
                self.folder,
                self.ranks.device,
                config=asdict(self.settings),
                metrics=metrics,
                best_ap=self.progress.best_ap,
                best_epoch=self.progress.best_epoch,
                category_ids=self.data.train_set.category_ids,
                parameters=count_parameters(self.model),
                trained_parameters=self.trained_parameters,
                processes=self.ranks.world_size,
                seconds=round(self.progress.seconds, 2),
                data=self.data.identity,
            )
            if problem := draw_curves(self.folder):
                self.echo(problem)
        self.ranks.wait()
        result = read_result(self.folder)
        assert result is not None
        return result

    def _evaluate(self) -> DetectionMetrics:
        start = time.perf_counter()
        self.trainer.sync_running_statistics()
        masks = self.settings.has_masks
        metrics = evaluate_detector(self.model, self.data.val.epoch(0), self.data.val_set, self.ranks, masks=masks)
        self.pace.pause(time.perf_counter() - start)
        return metrics

    def _diverged(self, what: str, step: int) -> FloatingPointError:
        return FloatingPointError(
            f"{what} at epoch {self.progress.epoch + 1}, step {step} (last finite loss: {self._last_finite:.6g}); try "
            f"a lower lr, more warmup_steps or clip_grad; the checkpoint in {self.folder} is from before"
        )
