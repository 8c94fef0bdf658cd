"""`class_weights` for the training loss, and `weighted_loss`, the cross entropy with them."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

CLASS_WEIGHTS = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}
"""The weight of a class is proportional to this power of the inverse of the number of its images."""


def class_weights(targets: Tensor, kind: str, classes: int) -> Tensor:
    """The weight of each class, float32 (classes,); the mean over the training images is 1.

    "balanced" is N / (classes · images of the class), for N images.

    Args:
        targets: the class of each training image, int64 (N,).
        kind: a name of `CLASS_WEIGHTS`.
        classes: the number of classes.

    Raises:
        ValueError: a class has no image.
    """
    counts = torch.bincount(targets, minlength=classes).double()
    if missing := (counts == 0).nonzero().flatten().tolist():
        raise ValueError(f"class_weights: wanted training images of every class, got none of class {missing[0]}")
    weights = counts ** -CLASS_WEIGHTS[kind]
    return (weights * counts.sum() / (weights * counts).sum()).float()


def weighted_loss(logits: Tensor, targets: Tensor, weights: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """The mean cross entropy over images, weighted by their classes.

    With label smoothing it differs from `torch.nn.CrossEntropyLoss(weight=…, label_smoothing=…)`, which weights the
    smoothed part of a target by the class that it is assigned to. For an image of a common class the loss is then least
    if a rare class is predicted.
    """
    losses = cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="none")
    of_images = weights[targets]
    return (losses * of_images).sum() / of_images.sum()
