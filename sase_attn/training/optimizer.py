"""Optimizer and learning-rate schedule of a recipe; both are timm's."""

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn

from sase_attn.training.recipes import Recipe


def create_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a recipe over the parameters of a model that require gradients."""
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        model,
        opt=recipe.optimizer,
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        filter_bias_and_bn=not recipe.decay_all,
        layer_decay=recipe.layer_decay,
    )
    return optimizer


def create_scheduler(recipe: Recipe, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> Scheduler | None:
    """The schedule of a recipe, which changes the learning rate at every step; None for a constant one.

    A warm-up of n steps takes the place of the first n of the schedule, as timm's does. It rises in a straight line
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
    return scheduler
