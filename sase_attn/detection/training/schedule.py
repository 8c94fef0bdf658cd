"""The learning rate of a detector: it rises linearly at the start, and falls to a tenth after some epochs.

torch's and timm's schedules of this kind begin with drops only after the warm-up. Here a drop comes after its epoch,
whether the warm-up is over or not, as in mmdetection's schedules, which the papers use.
"""

from collections.abc import Iterator

import torch

from sase_attn.detection.config import DetectionConfig
from sase_attn.quoting import counted, enumerated


class DetectionSchedule:
    """Sets the learning rate of an optimizer, as a function of the number of the step.

    Args:
        config: only lr, lr_batch_size, batch_size, lr_drops, warmup_steps and warmup_factor are used.
        optimizer: the optimizer, whose groups all get the same learning rate.
        steps_per_epoch: number of steps per epoch.
    """

    def __init__(self, config: DetectionConfig, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> None:
        self._config, self._optimizer, self._steps_per_epoch = config, optimizer, steps_per_epoch

    def __call__(self, step: int) -> None:
        """Set the learning rate of a step; the first is 0."""
        lr = self._config.scaled_lr * lr_factor(self._config, step, self._steps_per_epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = lr


def lr_factor(config: DetectionConfig, step: int, steps_per_epoch: int) -> float:
    """The factor of the learning rate at a step; the first step is 0."""
    drops = sum(step >= epoch * steps_per_epoch for epoch in config.lr_drops)
    warmed = min(step / config.warmup_steps, 1.0) if config.warmup_steps else 1.0
    return float((config.warmup_factor + (1 - config.warmup_factor) * warmed) / 10**drops)


def lr_lines(config: DetectionConfig, steps_per_epoch: int) -> Iterator[str]:
    """The schedule for this amount of data, as lines of text."""
    lr, images, batch = config.scaled_lr, config.batch_size, config.lr_batch_size
    scaled = "" if batch in (None, images) else f", scaled linearly from {config.lr:g} for {batch}"
    each = f"{counted(images, 'image')} a step"
    yield f"learning rate {lr:.3g} for {each}{scaled}; {counted(steps_per_epoch, 'step')} an epoch"
    steps = config.epochs * steps_per_epoch
    if config.warmup_steps > max(1, steps // 2):
        yield (
            f"the warm-up of {counted(config.warmup_steps, 'step')} is most of this training, which has {steps}: set "
            f"warmup_steps to about {max(1, steps // 20)}"
        )
    if config.epochs > 1:  # a single epoch has no place for a drop
        yield from _drop_lines(config.lr_drops, config.epochs)


def _drop_lines(drops: tuple[int, ...], epochs: int) -> Iterator[str]:
    """Advice about drops that come too late or too early, such as those for another number of epochs."""
    as_published = (round(epochs * 2 / 3), round(epochs * 11 / 12))
    wanted = " ".join(str(epoch) for epoch in sorted({max(1, min(epoch, epochs - 1)) for epoch in as_published}))
    if late := [epoch for epoch in drops if epoch >= epochs]:
        listed = enumerated(late)
        yield f"of {epochs} epochs none comes after a drop of the learning rate at {listed}: set --lr-drops {wanted}"
    elif drops and drops[-1] < 0.6 * epochs:
        yield (
            f"the learning rate falls for the last time after epoch {drops[-1]} of {epochs}, and most of this training "
            f"has little of it: set --lr-drops {wanted}"
        )
