"""Recipes: everything that decides the numbers of a training run, by name, as one frozen record that JSON can hold.

`imagenet` is the recipe of the paper's text (arXiv 2411.08333), `imagenet-release` that of the authors' script, where
the two differ. It also starts where theirs does: gates are drawn at random, the last norm of each branch is at 1.
`cifar` is the usual one for CIFAR ResNets (He et al., arXiv 1512.03385, with a cosine schedule). Optimisers are timm's:
its "momentum" is plain SGD with momentum, its "sgd" adds Nesterov's step.
"""

import os
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from timm.optim import list_optimizers

from sase_attn.settings import (
    ABOVE_0,
    AT_LEAST_0,
    AT_LEAST_1,
    FRACTION,
    LARGEST_NUMBER,
    LARGEST_SEED,
    LARGEST_SIZE,
    MANY,
    NOT_NEGATIVE,
    Ranges,
    Settings,
    at_most,
    setting,
)
from sase_attn.training.class_weights import CLASS_WEIGHTS
from sase_attn.training.data.sampling import SAMPLINGS

SCHEDULES = ("cosine", "tanh", "step", "none")
AMP = ("none", "bfloat16", "float16")


@dataclass(frozen=True)
class Recipe(Settings):
    """What is trained, on what and how. Values are checked on creation; the fields are the flags of `sase-attn train`.

    Raises:
        ValueError: a value of the wrong type or outside its range; the message names the field.
        UnknownNameError: no such optimizer, schedule, AMP type, class weights or sampling.
    """

    model: str = setting("sase_resnet20", "a model of timm's registry, which holds this package's")
    model_kwargs: dict[str, Any] = setting({}, "arguments of the model, as key=value")
    init_from: str | None = setting(None, 'start from a checkpoint file, or from "pretrained": timm\'s weights')
    start_as: dict[str, Any] = setting(
        {},
        "start with the tensors that this network (model=NAME, its arguments) has for the seed, by name and shape",
    )
    freeze: tuple[str, ...] = setting((), 'patterns of parameters that are not trained, such as "conv1.*" "layer1.*"')

    data: str = setting("embedded", "a data set's name or an image folder")
    size: int | None = setting(None, "height and width of the images (default: the data's own)")
    augment: str = setting(
        "cifar", 'of training images: "cifar" (crop, flip), "imagenet" (resized crop, flip) or "none"'
    )
    color_jitter: tuple[float, ...] | None = setting(None, "strengths of colour jitter")
    batch_size: int = setting(128, "images a step, over all processes")
    sampling: str = setting(
        "shuffle", 'an epoch takes each image once: "shuffle"; as many of each class: "balanced"; or "sqrt", in between'
    )
    workers: int = setting(0, "processes that load images")
    on_broken: str = setting("refuse", 'broken images: "refuse" or "skip"')

    epochs: int = setting(12, "passes over the training data")
    optimizer: str = setting("momentum", 'an optimizer of timm; "momentum" is SGD with momentum, "sgd" Nesterov\'s')
    lr: float = setting(0.05, "learning rate that the schedule decays from")
    momentum: float = setting(0.9, "momentum of the optimizer")
    weight_decay: float = setting(5e-4, "weight decay")
    decay_all: bool = setting(True, "decay biases and norms too")
    layer_decay: float | None = setting(None, "learning-rate factor from each layer to the one before it")
    schedule: str = setting("cosine", f"of the learning rate, step by step: {', '.join(SCHEDULES)}")
    warmup_epochs: int = setting(0, "epochs of linear warm-up towards lr, in the place of the first of the schedule")
    min_lr: float = setting(0.0, "learning rate at the end of a cosine or tanh")
    decay_epochs: int = setting(30, "epochs between the drops of a step schedule")
    decay_rate: float = setting(0.1, "factor of each drop of a step schedule")
    label_smoothing: float = setting(0.0, "label smoothing of the cross entropy")
    class_weights: str = setting(
        "none", 'of the loss: "balanced" by the inverse of the number of training images, "sqrt" by its root, or "none"'
    )
    clip_grad: float | None = setting(None, "largest norm of the gradient")
    ema_decay: float | None = setting(None, "average the weights with this decay; the average is what is evaluated")

    amp: str = setting("none", f"autocast type: {', '.join(AMP)} (float16 needs CUDA)")
    channels_last: bool = setting(False, "NHWC memory; on CPU it was seen to degrade training")
    sync_bn: bool = setting(False, "batch norm over all processes (needs CUDA)")
    seed: int = setting(0, "seed of the initial weights, the batches and the dropout")
    checkpoint_every: int = setting(0, "also save every so many steps (0: at the end of each epoch only)")
    log_every: int = setting(20, "a line in the log every so many steps (0: at the end of each epoch only)")
    imports: tuple[str, ...] = setting((), "modules or .py files to import first, which register what is named here")

    KIND: ClassVar[str] = "recipe"
    RANGES: ClassVar[Ranges] = (
        (("epochs", "batch_size", "decay_epochs", "size"), *AT_LEAST_1),
        (("workers", "warmup_epochs", "checkpoint_every", "log_every", "seed"), *AT_LEAST_0),
        (("lr", "clip_grad", "layer_decay", "decay_rate"), *ABOVE_0),
        (("weight_decay", "min_lr"), *NOT_NEGATIVE),
        (("momentum", "label_smoothing", "ema_decay"), *FRACTION),
        (("epochs", "batch_size", "decay_epochs", "warmup_epochs", "checkpoint_every", "log_every"), *at_most(MANY)),
        (("lr", "clip_grad", "layer_decay", "decay_rate", "weight_decay", "min_lr"), *at_most(LARGEST_NUMBER)),
        (("seed",), *at_most(LARGEST_SEED)),
        (("size",), *at_most(LARGEST_SIZE)),
        (("workers",), *at_most(1024)),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_name("optimizer", "optimizer", list_optimizers())
        self.check_name("schedule", "schedule", SCHEDULES)
        self.check_name("amp", "AMP type", AMP)
        self.check_name("class_weights", "class weights", CLASS_WEIGHTS)
        self.check_name("sampling", "sampling", SAMPLINGS)
        if CLASS_WEIGHTS[self.class_weights] > SAMPLINGS[self.sampling]:
            raise ValueError(
                f"recipe fields class_weights and sampling: {self.class_weights!r} and {self.sampling!r} together give "
                "rare classes more than common ones; give one of them, or sqrt for both"
            )
        if self.warmup_epochs and (self.schedule == "none" or self.warmup_epochs >= self.epochs):
            raise ValueError(
                f"recipe field warmup_epochs: wanted a schedule and fewer than {self.epochs} epochs, "
                f"got {self.warmup_epochs} with schedule {self.schedule!r}; 0 is without warm-up"
            )

    @classmethod
    def get(cls, name: str | os.PathLike[str]) -> "Recipe":
        """A recipe by name, or from a `.json` file. Raises UnknownNameError, or FileNotFoundError."""
        return cls.read(name, RECIPES)


_IMAGENET = Recipe(
    model="sase_resnet50",
    data="imagenet",
    size=224,
    augment="imagenet",
    workers=8,
    epochs=100,
    weight_decay=1e-4,
)

RECIPES = {
    "embedded": Recipe(epochs=10, lr=0.1, warmup_epochs=1, clip_grad=5.0),
    "cifar": Recipe(data="cifar10", epochs=100, lr=0.1),
    "imagenet": _IMAGENET,
    "imagenet-release": replace(
        _IMAGENET,
        model_kwargs={"gate_init": "release", "zero_init_last": False},
        lr=0.1,
        label_smoothing=0.1,
        color_jitter=(0.4, 0.4, 0.4, 0.2),
        clip_grad=5.0,
    ),
}
"""The recipes by name; `Recipe.get` also reads files."""
