"""`DetectionTrainer`: one step of a detector, whose losses torchvision's networks compute themselves."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from timm.utils import distribute_bn
from torch import Tensor
from torchvision.models.detection import FasterRCNN, MaskRCNN

from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.network.body import trains_in_vain
from sase_attn.detection.training.schedule import DetectionSchedule
from sase_attn.modules import is_finite
from sase_attn.training.distributed import Ranks
from sase_attn.training.optimizer import create_optimizer
from sase_attn.training.optimizer_step import OptimizerStep
from sase_attn.training.precision import check_amp
from sase_attn.weights.gains import take_gains
from sase_attn.weights.genotypes import KEY as GENOTYPE


class Losses(NamedTuple):
    """Over all ranks: the means of each loss and their sum `loss`, the number of images, and whether any rank stops."""

    values: dict[str, float]
    images: int
    stop: bool


class DetectionTrainer:
    """A detector and its `OptimizerStep`; `step` trains it.

    Args:
        config: only the optimizer, schedule, precision and seed are used.
        model: the model with its initial weights; it is moved to the device of `ranks` and trained in place.
        ranks: the processes of the run.
        steps_per_epoch: optimizer steps per epoch.

    Raises:
        ValueError: float16 without CUDA, a batch that cannot be divided among the processes, or nothing to train.
    """

    def __init__(
        self, config: DetectionConfig, model: FasterRCNN | MaskRCNN, ranks: Ranks, steps_per_epoch: int
    ) -> None:
        check_amp(config.amp, ranks.device)
        ranks.check_batch_size(config.batch_size)
        self.config, self.ranks = config, ranks
        self.model = model.to(ranks.device).train()
        optimizer = create_optimizer(config.override(lr=config.scaled_lr, lr_batch_size=None), model)
        schedule = DetectionSchedule(config, optimizer, steps_per_epoch)
        body = model.backbone.body
        in_vain = ranks.world_size > 1 and trains_in_vain(body)
        self._step = OptimizerStep(config, model, ranks, optimizer, schedule, some_unused=in_vain)

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return self._step.lr

    def step(self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]], *, stop: bool = False) -> Losses:
        """One optimizer step on this rank's part of a batch.

        Args:
            images: float (3, H, W) from 0 to 1, of any sizes; at least one.
            targets: for each image `boxes` (N, 4), `labels` (N,), and for masks `masks` (N, H, W); N may be 0.
            stop: whether this rank was asked to stop.
        """
        ranks, device = self.ranks, self.ranks.device
        self._step.begin()
        moved = [image.to(device, non_blocking=True) for image in images]
        wanted = [{name: value.to(device, non_blocking=True) for name, value in target.items()} for target in targets]
        (count,) = ranks.sum(len(moved))
        with self._step.autocast():
            losses: dict[str, Tensor] = self._step.parallel(moved, wanted)
        losses = {name: value.float() for name, value in losses.items()}
        total = torch.stack(list(losses.values())).sum()
        self._step.update(total * (len(moved) * ranks.world_size / count))  # ranks may hold different numbers of images
        parts = {"loss": total.item(), **{name: value.item() for name, value in losses.items()}}
        *sums, stops = ranks.sum(*(value * len(moved) for value in parts.values()), float(stop))
        values = {name: value / count for name, value in zip(parts, sums, strict=True)}
        return Losses(values, int(count), bool(stops))

    def sync_running_statistics(self) -> None:
        """Give every rank the running statistics of rank 0, as DistributedDataParallel does before each step."""
        if self.ranks.world_size > 1:
            distribute_bn(self.model, self.ranks.world_size, reduce=False)

    def is_finite(self) -> bool:
        """Whether every parameter is finite."""
        return is_finite(self.model)

    def state_dict(self) -> dict[str, Any]:
        """All state that a step reads and changes, as tensors and numbers."""
        return self._step.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state_dict`. Raises ValueError if it belongs to another network."""
        if self.config.init_from is not None:  # such weights may have the gain in their norms
            take_gains(state.get(GENOTYPE), self.model, source="the checkpoint")
        self._step.load_state_dict(state)
