"""`Trainer`: one step of training, and all state that a step changes."""

from typing import Any

import torch
from timm.utils import ModelEmaV3, distribute_bn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sase_attn.modules import freeze, is_finite
from sase_attn.training.checkpoint import fitting_network
from sase_attn.training.class_weights import weighted_loss
from sase_attn.training.distributed import Ranks
from sase_attn.training.optimizer import create_optimizer, create_scheduler
from sase_attn.training.optimizer_step import OptimizerStep
from sase_attn.training.precision import check_amp
from sase_attn.training.recipes import Recipe
from sase_attn.weights.gains import take_gains
from sase_attn.weights.genotypes import KEY as GENOTYPE


class Trainer:
    """A network with its weight average, loss and `OptimizerStep`; `step` trains it.

    Args:
        recipe: the recipe, whose optimizer, schedule, loss, precision, weight average and freezing are used.
        model: the network with its initial weights; it is moved to the device of `ranks` and trained in place.
        ranks: the processes of the run.
        steps_per_epoch: optimizer steps in an epoch.
        class_weights: the weight of an image of each class in the loss, (classes,); None if all are equal.

    Raises:
        ValueError: the recipe needs CUDA, or its batch cannot be divided among the processes.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        ranks: Ranks,
        steps_per_epoch: int,
        class_weights: Tensor | None = None,
    ) -> None:
        check_amp(recipe.amp, ranks.device)
        if recipe.sync_bn and ranks.device.type != "cuda":
            raise ValueError(f"sync_bn needs CUDA, got {ranks.device.type}")
        ranks.check_batch_size(recipe.batch_size)
        self.recipe, self.ranks = recipe, ranks
        if recipe.sync_bn and ranks.world_size > 1:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self._format = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.model = model.to(ranks.device).to(memory_format=self._format)
        self._frozen = freeze(model, recipe.freeze)
        self.train_mode()
        self.optimizer = create_optimizer(recipe, model)
        scheduler = create_scheduler(recipe, self.optimizer, steps_per_epoch)
        self._class_weights = None if class_weights is None else class_weights.to(ranks.device)
        self.ema = None if recipe.ema_decay is None else ModelEmaV3(model, decay=recipe.ema_decay, use_warmup=True)
        self._step = OptimizerStep(
            recipe, self.model, ranks, self.optimizer, None if scheduler is None else scheduler.step_update
        )

    @property
    def lr(self) -> float:
        """The largest learning rate of the last step."""
        return self._step.lr

    @property
    def updates(self) -> int:
        """The number of steps done."""
        return self._step.updates

    @property
    def eval_model(self) -> nn.Module:
        """The network to evaluate: the weight average if there is one."""
        model: nn.Module = self.model if self.ema is None else self.ema.module
        return model

    def sync_running_statistics(self) -> None:
        """Give every rank the running statistics of rank 0, as DistributedDataParallel does before each step."""
        if self.ranks.world_size > 1:
            distribute_bn(self.eval_model, self.ranks.world_size, reduce=False)

    def train_mode(self) -> None:
        """Set the network to train mode, except for frozen norms."""
        self.model.train()
        for module in self._frozen:
            module.eval()

    def step(self, images: Tensor, targets: Tensor, *, stop: bool = False) -> tuple[float, int, bool]:
        """One optimizer step on this rank's part of a batch.

        Returns:
            Over all ranks: the mean loss before the step, the number of images, and whether any rank set `stop`.
        """
        ranks = self.ranks
        self._step.begin()
        images = images.to(ranks.device, memory_format=self._format, non_blocking=True)
        targets = targets.to(ranks.device, non_blocking=True)
        own = len(targets) if self._class_weights is None else float(self._class_weights[targets].sum())
        count, all_weights = ranks.sum(len(targets), own)
        with self._step.autocast():
            logits = self._step.parallel(images)
        loss = self._loss(logits.float(), targets)
        weight = own * ranks.world_size / all_weights  # ranks may have different numbers of images and classes
        self._step.update(loss * weight)
        if self.ema is not None:
            self.ema.update(self.model, step=self.updates)
        total, stops = ranks.sum(loss.item() * own, float(stop))
        return total / all_weights, int(count), bool(stops)

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        smoothing = self.recipe.label_smoothing
        if self._class_weights is None:
            return cross_entropy(logits, targets, label_smoothing=smoothing)
        return weighted_loss(logits, targets, self._class_weights, label_smoothing=smoothing)

    def is_finite(self) -> bool:
        """Whether every parameter is finite."""
        return is_finite(self.model)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a step reads and changes, as tensors and numbers."""
        ema = None if self.ema is None else self.ema.module.state_dict()
        return self._step.state_dict() | {"ema": ema}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave. Raises ValueError if it belongs to another network."""
        if self.recipe.init_from is not None:  # the gain may be in the norms of the weights that it started from
            for network in {self.model, self.eval_model}:
                take_gains(state.get(GENOTYPE), network, source="the checkpoint")
        self._step.load_state_dict(state)
        if self.ema is not None:
            with fitting_network():
                self.ema.module.load_state_dict(state["ema"])
