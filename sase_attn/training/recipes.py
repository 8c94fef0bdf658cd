"""Recipes: everything that decides the numbers of a training run, by name, as one frozen record that JSON can hold.

`imagenet` is the recipe of the paper's text (arXiv 2411.08333), `imagenet-release` that of the authors' script, where
the two differ. `cifar` is the usual one for CIFAR ResNets (He et al., arXiv 1512.03385, with a cosine schedule).
Optimisers are timm's: its "momentum" is plain SGD with momentum, its "sgd" adds Nesterov's step.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from timm.optim import list_optimizers

from sase_attn.suggest import unknown_name

SCHEDULES = ("cosine", "tanh", "step", "none")
AMP = ("none", "bfloat16", "float16")


def _field(default: Any, help: str) -> Any:
    """A field of a recipe: its default and the line that `sase-attn train --help` shows."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Recipe:
    """What is trained, on what and how. Values are checked on creation; the fields are the flags of `sase-attn train`.

    Raises:
        ValueError: a value of the wrong type or outside its range; the message names the field.
        UnknownNameError: no such optimizer, schedule or AMP type.
    """

    model: str = _field("sase_resnet20", "a model of timm's registry, which holds this package's")
    model_kwargs: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "arguments of the model, as key=value"}
    )
    init_from: str | None = _field(None, 'start from a checkpoint file, or from "pretrained": timm\'s weights')
    freeze: tuple[str, ...] = _field((), 'patterns of parameters that are not trained, such as "conv1.*" "layer1.*"')

    data: str = _field("embedded", "a data set's name or an image folder")
    size: int | None = _field(None, "height and width of the images (default: the data's own)")
    augment: str = _field(
        "cifar", 'of training images: "cifar" (crop, flip), "imagenet" (resized crop, flip) or "none"'
    )
    color_jitter: tuple[float, ...] | None = _field(None, "strengths of colour jitter")
    batch_size: int = _field(128, "images a step, over all processes")
    workers: int = _field(0, "processes that load images")
    on_broken: str = _field("refuse", 'broken images: "refuse" or "skip"')

    epochs: int = _field(12, "passes over the training data")
    optimizer: str = _field("momentum", 'an optimizer of timm; "momentum" is SGD with momentum, "sgd" Nesterov\'s')
    lr: float = _field(0.05, "peak learning rate")
    momentum: float = _field(0.9, "momentum of the optimizer")
    weight_decay: float = _field(5e-4, "weight decay")
    decay_all: bool = _field(True, "decay biases and norms too")
    layer_decay: float | None = _field(None, "learning-rate factor from each layer to the one before it")
    schedule: str = _field("cosine", f"of the learning rate, step by step: {', '.join(SCHEDULES)}")
    warmup_epochs: int = _field(0, "epochs of linear warm-up, within the epochs")
    min_lr: float = _field(0.0, "learning rate at the end of a cosine or tanh")
    decay_epochs: int = _field(30, "epochs between the drops of a step schedule")
    decay_rate: float = _field(0.1, "factor of each drop of a step schedule")
    label_smoothing: float = _field(0.0, "label smoothing of the cross entropy")
    clip_grad: float | None = _field(None, "largest norm of the gradient")
    ema_decay: float | None = _field(None, "average the weights with this decay; the average is what is evaluated")

    amp: str = _field("none", f"autocast type: {', '.join(AMP)} (float16 needs CUDA)")
    channels_last: bool = _field(False, "NHWC memory; on CPU it was seen to degrade training")
    sync_bn: bool = _field(False, "batch norm over all processes (needs CUDA)")
    seed: int = _field(0, "of the initial weights, the batches and the dropout")
    checkpoint_every: int = _field(0, "also save every so many steps (0: at the end of each epoch only)")
    log_every: int = _field(20, "a line in the log every so many steps (0: at the end of each epoch only)")

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(Recipe).items():
            object.__setattr__(self, name, _checked(name, hint, getattr(self, name)))
        for kind, name, known in (
            ("optimizer", self.optimizer, list_optimizers()),
            ("schedule", self.schedule, SCHEDULES),
            ("AMP type", self.amp, AMP),
        ):
            if name not in known:
                raise unknown_name(kind, name, known)
        for names, fits, wanted in _RANGES:
            for name in names:
                value = getattr(self, name)
                if value is not None and not fits(value):
                    raise ValueError(f"recipe field {name}: wanted {wanted}, got {value!r}")
        if self.warmup_epochs and (self.schedule == "none" or self.warmup_epochs >= self.epochs):
            raise ValueError(
                f"recipe field warmup_epochs: wanted a schedule and fewer than {self.epochs} epochs, "
                f"got {self.warmup_epochs} with schedule {self.schedule!r}"
            )

    def override(self, **values: Any) -> "Recipe":
        """A copy with other values. Raises UnknownNameError for a name that is no field."""
        known = {item.name for item in fields(self)}
        for name in values:
            if name not in known:
                raise unknown_name("recipe field", name, known)
        return replace(self, **values)

    def to_json(self) -> str:
        """As a JSON object, a field a line."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read what `to_json` wrote; fields that are missing take their defaults."""
        values = json.loads(text)
        try:
            return cls().override(**values)
        except TypeError:
            raise ValueError(f"wanted a recipe as a JSON object, got {type(values).__name__}") from None

    @classmethod
    def get(cls, name: str | os.PathLike[str]) -> "Recipe":
        """A recipe by name, or from a `.json` file. Raises UnknownNameError, or FileNotFoundError."""
        if str(name).endswith(".json"):
            return cls.from_json(Path(name).read_text(encoding="utf-8"))
        if name not in RECIPES:
            raise unknown_name("recipe", name, RECIPES)
        return RECIPES[str(name)]

    def differences(self, other: "Recipe") -> list[str]:
        """Names of the fields in which two recipes differ."""
        return [item.name for item in fields(self) if getattr(self, item.name) != getattr(other, item.name)]


_RANGES: tuple[tuple[tuple[str, ...], Any, str], ...] = (
    (("epochs", "batch_size", "decay_epochs", "size"), lambda v: v >= 1, "at least 1"),
    (("workers", "warmup_epochs", "checkpoint_every", "log_every", "seed"), lambda v: v >= 0, "at least 0"),
    (("lr", "clip_grad", "layer_decay", "decay_rate"), lambda v: 0 < v < float("inf"), "a number above 0"),
    (("weight_decay", "min_lr"), lambda v: 0 <= v < float("inf"), "a number of at least 0"),
    (("momentum", "label_smoothing", "ema_decay"), lambda v: 0 <= v < 1, "a number from 0 to below 1"),
)


def recipe_fields() -> list[tuple[Field[Any], Any]]:
    """The fields of a recipe in order, each with its type."""
    hints = get_type_hints(Recipe)
    return [(item, hints[item.name]) for item in fields(Recipe)]


def _checked(name: str, hint: Any, value: Any) -> Any:
    for option in get_args(hint) if isinstance(hint, UnionType) else (hint,):
        if option is NoneType and value is None:
            return None
        if option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if get_origin(option) is tuple and isinstance(value, list | tuple):
            return tuple(_checked(name, get_args(option)[0], item) for item in value)
        if get_origin(option) is dict and isinstance(value, Mapping):
            try:
                return json.loads(json.dumps(dict(value)))
            except TypeError as error:
                raise ValueError(f"recipe field {name}: wanted values that JSON can hold: {error}") from None
        if type(value) is option:
            return value
    wanted = getattr(hint, "__name__", None) if isinstance(hint, type) and not get_args(hint) else str(hint)
    raise ValueError(f"recipe field {name}: wanted {wanted}, got {value!r}")


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
        _IMAGENET, lr=0.1, label_smoothing=0.1, color_jitter=(0.4, 0.4, 0.4, 0.2), clip_grad=5.0
    ),
}
