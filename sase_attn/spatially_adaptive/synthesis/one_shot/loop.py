"""`OneShotLoop`: the run of `train_one_shot`, scale after scale."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sase_attn.modules import count_parameters
from sase_attn.quoting import command
from sase_attn.spatially_adaptive.synthesis.one_shot.checkpoint import SETTINGS_NAME
from sase_attn.spatially_adaptive.synthesis.one_shot.config import OneShotConfig
from sase_attn.spatially_adaptive.synthesis.one_shot.measures import measure
from sase_attn.spatially_adaptive.synthesis.one_shot.model import OneShotModel
from sase_attn.spatially_adaptive.synthesis.one_shot.networks import ScaleDiscriminator
from sase_attn.spatially_adaptive.synthesis.one_shot.result import OneShotResult, write_result
from sase_attn.spatially_adaptive.synthesis.one_shot.saved_model import save_one_shot
from sase_attn.spatially_adaptive.synthesis.one_shot.sheet import model_sheet
from sase_attn.spatially_adaptive.synthesis.one_shot.trainer import ScaleTrainer, learning_rate
from sase_attn.spatially_adaptive.synthesis.sheets import save_png
from sase_attn.training.checkpoint import Progress, fitting_network
from sase_attn.training.data.identity import DataIdentity
from sase_attn.training.distributed import Ranks
from sase_attn.training.pace import pace_text
from sase_attn.training.resumable import ResumableLoop, StepReport


class OneShotLoop(ResumableLoop[OneShotConfig, Progress, int]):
    """One run of `train_one_shot`; `finish` writes its result. Its epochs are the scales, its steps their iterations.

    Args:
        config: the settings, with the number of scales.
        folder: the folder for all files.
        ranks: the one process of the run.
        model: the model with its initial weights; it is trained in place.
        identity: the identity of the image.
        echo: called with each line of output for the user.
    """

    SETTINGS_NAME = SETTINGS_NAME
    ROUND = "scale"

    def __init__(
        self,
        config: OneShotConfig,
        folder: Path,
        ranks: Ranks,
        model: OneShotModel,
        identity: DataIdentity,
        echo: Callable[[str], object],
    ) -> None:
        super().__init__(
            config,
            folder,
            ranks,
            echo,
            Progress(),
            data=identity,
            steps_per_epoch=config.iterations,
            checkpoint_every=config.checkpoint_every,
        )
        self.model, self.identity = model.to(ranks.device), identity
        self.trainer: ScaleTrainer | None = None
        self._coarser: ScaleDiscriminator | None = None

    @property
    def lr(self) -> float:
        """The learning rate of the next iteration."""
        return learning_rate(self.settings, self.progress.step)

    @property
    def resume_command(self) -> str:
        """The command that resumes the run after an interruption."""
        return command("synthesize", "one-shot", "train", "--output", self.folder, "--resume")

    def batches(self) -> Iterator[int]:
        """The iterations of the scale, from the current one on."""
        if self.trainer is None:
            self.trainer = ScaleTrainer(self.settings, self.model, self.progress.epoch, self._coarser)
        yield from range(self.progress.step, self.settings.iterations)

    def step(self, batch: int) -> StepReport:
        """Train for one iteration. Raises FloatingPointError if a loss is not finite."""
        assert self.trainer is not None
        self.ranks.seed_step(self.settings.seed, self.global_step)
        losses = self.trainer.step(batch)
        for name, value in losses.items():
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"{name} is {value} at iteration {batch + 1} of scale {self.progress.epoch}; try a lower lr; "
                    f"the checkpoint in {self.folder} is from before"
                )
        return StepReport(1, self.interrupt.asked, losses)

    def end_epoch(self) -> None:
        """End the scale; the next one starts from its weights."""
        assert self.trainer is not None
        scale = self.progress.epoch
        self.trainer.settle()
        self._coarser, self.trainer = self.trainer.discriminator, None
        with torch.no_grad():
            rebuilt = self.model.reconstruct(scale + 1)
            wrong = (rebuilt - self.model.real(scale)).square().mean().sqrt().item()
        row = self.write("scale", reconstruction_rmse=wrong, noise=self.model.amplitudes[scale].item())
        height, width = self.model.sizes[scale]
        left = pace_text(row).partition("left")[2]
        self.echo(f"scale {scale + 1}/{self.settings.epochs}  {width}x{height}  rebuilt to {wrong:.3f}  left{left}")

    def state_dict(self) -> dict[str, Any]:
        """The state of the model and of the scale's trainer; between two scales, of the last discriminator instead."""
        state: dict[str, Any] = {"model": self.model.state_dict(), "scale": self.progress.epoch}
        if self.trainer is not None:
            state["trainer"] = self.trainer.state_dict()
        elif self._coarser is not None:
            state["coarser"] = self._coarser.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint. Raises ValueError if it belongs to another network."""
        with fitting_network():
            scale = state["scale"]
            self.model.load_state_dict(state["model"])
            if "trainer" in state:
                self.trainer = ScaleTrainer(self.settings, self.model, scale, resumed=True)
                self.trainer.load_state_dict(state["trainer"])
            elif "coarser" in state:
                self._coarser = ScaleDiscriminator(scale - 1, self.settings.width).to(self.ranks.device)
                self._coarser.load_state_dict(state["coarser"])

    def finish(self) -> OneShotResult:
        """Measure the model, write the model and the result, and return the result."""
        self.model.eval()
        save_one_shot(self.model, self.folder)
        save_png(model_sheet(self.model), self.folder / "sheet.png")
        return write_result(
            self.folder,
            self.ranks.device,
            config=asdict(self.settings),
            sizes=self.model.sizes,
            measures=measure(self.model),
            parameters=count_parameters(self.model),
            seconds=round(self.progress.seconds, 2),
            data=self.identity,
        )
