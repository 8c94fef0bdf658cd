"""Accuracy of a network on the images of a loader, over all ranks."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from timm.utils import accuracy
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sase_attn.training.distributed import Ranks


@dataclass(frozen=True)
class Metrics:
    """Top-1 and top-5 accuracy in percent, mean cross entropy, and the number of images."""

    top1: float
    top5: float
    loss: float
    count: int


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    ranks: Ranks | None = None,
    *,
    confusion: Tensor | None = None,
) -> Metrics:
    """Evaluate in eval mode and float32, on the model's device; modules then return to their former modes.

    With fewer than five classes top-5 is 100 %. Each rank evaluates its own batches; all ranks get the metrics over all
    images.

    Args:
        model: maps (B, C, H, W) float32 to (B, classes).
        batches: images and int64 targets.
        ranks: the processes of the run; by default this one alone.
        confusion: int64 (classes, classes) on the CPU, to which the number of images of each class (row) that were
            predicted as each class (column) is added, over all ranks.

    Raises:
        ValueError: there was no image.
    """
    parameter = next(model.parameters())
    modes = [(module, module.training) for module in model.modules()]
    sums = [0.0, 0.0, 0.0, 0.0]
    taken_for = None if confusion is None else torch.zeros_like(confusion)
    model.eval()
    try:
        for images, targets in batches:
            if not len(targets):
                continue
            images, targets = images.to(parameter.device), targets.to(parameter.device)
            logits = model(images.to(parameter.dtype)).float()
            right = [round(float(percent) * len(targets) / 100) for percent in accuracy(logits, targets, topk=(1, 5))]
            loss = cross_entropy(logits, targets, reduction="sum")
            sums = [a + b for a, b in zip(sums, (*right, float(loss), len(targets)), strict=True)]
            if taken_for is not None:
                pair = targets.cpu(), logits.argmax(1).cpu()
                taken_for.index_put_(pair, torch.ones_like(pair[0]), accumulate=True)
    finally:
        for module, mode in modes:
            module.training = mode
    top1, top5, loss_sum, count = ranks.sum(*sums) if ranks else sums
    if confusion is not None and taken_for is not None:
        confusion += ranks.total(taken_for) if ranks else taken_for
    if not count:
        raise ValueError("nothing to evaluate: wanted at least one image, got none")
    return Metrics(100 * top1 / count, 100 * top5 / count, loss_sum / count, int(count))
