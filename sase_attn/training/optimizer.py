"""Optimizer and learning-rate schedule of a recipe; both are timm's."""

from typing import Any, Protocol

import torch
from timm.optim import create_optimizer_v2, param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn

from sase_attn.attentions import no_weight_decay
from sase_attn.training.recipes import Recipe


class OptimizerSettings(Protocol):
    """The fields of a recipe that `create_optimizer` reads."""

    @property
    def optimizer(self) -> str:
        """Name of an optimizer of timm."""
        ...

    @property
    def lr(self) -> float:
        """Learning rate."""
        ...

    @property
    def momentum(self) -> float:
        """Momentum."""
        ...

    @property
    def weight_decay(self) -> float:
        """Weight decay."""
        ...

    @property
    def decay_all(self) -> bool:
        """Whether biases and norms are decayed too."""
        ...

    @property
    def layer_decay(self) -> float | None:
        """Factor of the learning rate from each layer to the one before it, if there is one."""
        ...


def create_optimizer(recipe: OptimizerSettings, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a recipe over the parameters of a model that require gradients.

    There is no decay for parameters of `sase_attn.attentions.no_weight_decay`, and, unless `decay_all`, for biases and
    norms.
    """

    def groups(model: nn.Module) -> list[dict[str, Any]]:
        decay: dict[str, Any] = {
            "weight_decay": recipe.weight_decay,
            "no_weight_decay_list": no_weight_decay(model),
            "weight_decay_exclude_1d": not recipe.decay_all,
        }
        if recipe.layer_decay is None:
            return param_groups_weight_decay(model, **decay)
        return param_groups_layer_decay(model, layer_decay=recipe.layer_decay, **decay)

    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        model,
        opt=recipe.optimizer,
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        param_group_fn=groups,
    )
    return optimizer


def create_scheduler(recipe: Recipe, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> Scheduler | None:
    """The schedule of a recipe, which changes the learning rate at every step; None for a constant one.

    The rate of a parameter group is that of the schedule times the group's `lr_scale`, which `layer_decay` sets.

    A warm-up of n steps replaces the first n steps of the schedule, as in timm. It rises in a straight line
    from lr/100 to lr·(1 − 0.99/n). The step after it is the schedule's own, which by then is below `lr`: after W of E
    epochs a cosine is at m + (lr − m)·(1 + cos(πW/E))/2, with m = `min_lr`. The larger of the two is the largest rate
    of the run. Without a warm-up that is `lr`.
    """
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=recipe.schedule,
        num_epochs=recipe.epochs,
        warmup_epochs=recipe.warmup_epochs,
        warmup_lr=0.01 * recipe.lr,
        min_lr=recipe.min_lr,
        decay_epochs=recipe.decay_epochs,
        decay_rate=recipe.decay_rate,
        step_on_epochs=False,
        updates_per_epoch=steps_per_epoch,
    )
    if scheduler is None:  # timm's schedules apply the scale at each step
        for group in optimizer.param_groups:
            group["lr"] *= group.get("lr_scale", 1.0)
    return scheduler
