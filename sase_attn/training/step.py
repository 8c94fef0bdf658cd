"""`Trainer`: one step of training, and everything that a step changes."""

import math
from typing import Any

import torch
from timm.utils import ModelEmaV3, dispatch_clip_grad, distribute_bn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from sase_attn.modules import freeze
from sase_attn.training.checkpoint import fitting_network
from sase_attn.training.class_weights import weighted_loss
from sase_attn.training.distributed import Ranks
from sase_attn.training.optimizer import create_optimizer, create_scheduler
from sase_attn.training.recipes import Recipe
from sase_attn.weights import check_record, record_of, take_gains
from sase_attn.weights.genotypes import KEY as GENOTYPE

_AMP_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Trainer:
    """A network with its average, optimizer, schedule and loss scaler; `step` trains it.

    Args:
        recipe: optimizer, schedule, loss, precision, average and freezing count.
        model: the network with its initial weights; it is moved to the device of `ranks` and trained in place.
        ranks: the processes of the run.
        steps_per_epoch: optimizer steps an epoch.
        class_weights: what an image of each class weighs in the loss, (classes,); None if all weigh the same.

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
        cuda = ranks.device.type == "cuda"
        for wanted, field in ((recipe.amp == "float16", 'amp "float16"'), (recipe.sync_bn, "sync_bn")):
            if wanted and not cuda:
                raise ValueError(
                    f"{field} needs CUDA, got {ranks.device.type}" + '; use "bfloat16"' * (not recipe.sync_bn)
                )
        ranks.check_batch_size(recipe.batch_size)
        self.recipe, self.ranks = recipe, ranks
        self.updates = 0
        if recipe.sync_bn and ranks.world_size > 1:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self._format = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.model = model.to(ranks.device).to(memory_format=self._format)
        self._frozen = freeze(model, recipe.freeze)
        self.train_mode()
        self.optimizer = create_optimizer(recipe, model)
        self._scheduler = create_scheduler(recipe, self.optimizer, steps_per_epoch)
        self._scaler = torch.amp.GradScaler("cuda", enabled=cuda and recipe.amp == "float16")
        self._class_weights = None if class_weights is None else class_weights.to(ranks.device)
        self.ema = None if recipe.ema_decay is None else ModelEmaV3(model, decay=recipe.ema_decay, use_warmup=True)
        self._parallel: nn.Module = self.model
        if ranks.world_size > 1:
            self._parallel = DistributedDataParallel(self.model, device_ids=[ranks.device] if cuda else None)

    @property
    def lr(self) -> float:
        """The largest learning rate of the last step."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    @property
    def eval_model(self) -> nn.Module:
        """The network whose accuracy counts: the average where there is one."""
        model: nn.Module = self.model if self.ema is None else self.ema.module
        return model

    def sync_running_statistics(self) -> None:
        """Give every rank the running statistics of rank 0, as DistributedDataParallel does before each step."""
        if self.ranks.world_size > 1:
            distribute_bn(self.eval_model, self.ranks.world_size, reduce=False)

    def train_mode(self) -> None:
        """All of the network in train mode, but for frozen norms."""
        self.model.train()
        for module in self._frozen:
            module.eval()

    def step(self, images: Tensor, targets: Tensor, *, stop: bool = False) -> tuple[float, int, bool]:
        """One optimizer step on this rank's part of a batch.

        Returns:
            Over all ranks: the mean loss before the step, the number of images, and whether any rank gave `stop`.
        """
        recipe, ranks = self.recipe, self.ranks
        ranks.seed_step(recipe.seed, self.updates)
        if self._scheduler is not None:
            self._scheduler.step_update(self.updates)
        images = images.to(ranks.device, memory_format=self._format, non_blocking=True)
        targets = targets.to(ranks.device, non_blocking=True)
        own = len(targets) if self._class_weights is None else float(self._class_weights[targets].sum())
        count, all_weights = ranks.sum(len(targets), own)
        with torch.autocast(ranks.device.type, _AMP_TYPES.get(recipe.amp), enabled=recipe.amp != "none"):
            logits = self._parallel(images)
        loss = self._loss(logits.float(), targets)
        weight = own * ranks.world_size / all_weights  # ranks may hold different numbers of images, of other classes
        self._scaler.scale(loss * weight).backward()
        if recipe.clip_grad is not None:
            self._scaler.unscale_(self.optimizer)
            dispatch_clip_grad(self.model.parameters(), recipe.clip_grad)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.updates += 1
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
        """Whether every parameter is."""
        return all(math.isfinite(float(p.detach().abs().max())) for p in self.model.parameters() if p.numel())

    def state_dict(self) -> dict[str, Any]:
        """Everything that a step reads and changes, as tensors and numbers."""
        return {
            **record_of(self.model),
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave. Raises ValueError if it belongs to another network."""
        record, source = state.get(GENOTYPE), "the checkpoint"
        if self.recipe.init_from is not None:  # weights that were warm-started otherwise, with the gain in their norms
            for network in {self.model, self.eval_model}:
                take_gains(record, network, source=source)
        check_record(record, self.model, source=source)
        with fitting_network():
            self.model.load_state_dict(state["model"])
            if self.ema is not None:
                self.ema.module.load_state_dict(state["ema"])
            sizes = _group_sizes(state["optimizer"])
        if sizes != _group_sizes(self.optimizer.state_dict()):
            raise ValueError(
                "the checkpoint's parameter groups differ: it was begun by a version that decayed other weights; "
                "start a new run"
            )
        with fitting_network():
            self.optimizer.load_state_dict(state["optimizer"])
            self._scaler.load_state_dict(state["scaler"])
            self.updates = int(state["updates"])


def _group_sizes(optimizer: dict[str, Any]) -> list[int]:
    """How many parameters each group of an optimizer has, by its state."""
    return [len(group["params"]) for group in optimizer["param_groups"]]
