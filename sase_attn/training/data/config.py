"""`DataConfig`: which data to load, and how."""

from dataclasses import dataclass, fields
from typing import Any, Self

from sase_attn.errors import unknown_name
from sase_attn.training.data.sampling import SAMPLINGS

AUGMENTS = ("cifar", "imagenet", "none")
ON_BROKEN = ("refuse", "skip")


@dataclass(frozen=True)
class DataConfig:
    """Which data to load, and how to batch, resize and augment them.

    Args:
        data: "embedded"; "cifar10", "cifar100" or "fashion-mnist", with ":ROOT" for torchvision's folder (default
            "data"); or an image folder with `train/<class>/*` and `val`, `validation` or `test` (the first there is).
        size: height and width of the images served; by default those of the data.
        augment: of training images: "cifar" (crop after padding by 4, flip), "imagenet" (resized crop, flip) or "none".
        color_jitter: strengths of brightness, contrast, saturation and, if there is a fourth, hue; not with "none".
        batch_size: images in a step, over all ranks.
        workers: processes that read the images of sets too large for memory; not used for others.
        sampling: how an epoch draws training images: "shuffle" uses each once; "balanced" draws equally many of each
            class; "sqrt" in proportion to the square root of the number of its images.
        on_broken: "refuse" an image that cannot be read, or "skip" it with a warning that names it.

    Raises:
        UnknownNameError: no such `augment`, `sampling` or `on_broken`.
        ValueError: a number out of its range.
    """

    data: str = "embedded"
    size: int | None = None
    augment: str = "cifar"
    color_jitter: tuple[float, ...] | None = None
    batch_size: int = 128
    workers: int = 0
    on_broken: str = "refuse"
    sampling: str = "shuffle"

    @classmethod
    def of(cls, settings: object) -> Self:
        """The fields of the same names in a recipe, or in the configuration of a search."""
        values: dict[str, Any] = {item.name: getattr(settings, item.name, item.default) for item in fields(cls)}
        return cls(**values)

    def __post_init__(self) -> None:
        for kind, name, known in (
            ("augment", self.augment, AUGMENTS),
            ("on_broken", self.on_broken, ON_BROKEN),
            ("sampling", self.sampling, tuple(SAMPLINGS)),
        ):
            if name not in known:
                raise unknown_name(kind, name, known)
        for field, value, least in (
            ("size", self.size, 1),
            ("batch_size", self.batch_size, 1),
            ("workers", self.workers, 0),
        ):
            if value is not None and value < least:
                raise ValueError(f"{field}: wanted at least {least}, got {value}")
        jitter = self.color_jitter
        if jitter is not None:
            if len(jitter) not in (3, 4) or not all(0 <= v < 1e30 for v in jitter) or max((0.0, *jitter[3:])) > 0.5:
                raise ValueError(f"color_jitter: wanted 3 numbers of at least 0, perhaps a hue to 0.5, got {jitter}")
            if self.augment == "none":
                raise ValueError('color_jitter: wanted augment "cifar" or "imagenet" with it, got "none"')
