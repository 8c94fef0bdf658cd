"""`View`: how test images are resized and cropped for a network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from timm.data import create_transform
from torch import Tensor


@dataclass(frozen=True)
class View:
    """How test images are resized and cropped for a network; None for what is not known.

    Attributes:
        size: height and width.
        crop_pct: the central part of the shorter side that is resized to this size.
        interpolation: the interpolation, by timm's name.
        crop_mode: how timm fits an image to the size: "center", "squash" or "border".
    """

    size: int | None = None
    crop_pct: float | None = None
    interpolation: str = "bilinear"
    crop_mode: str = "center"

    @classmethod
    def of(cls, cfg: Mapping[str, Any]) -> Self:
        """The view of a `pretrained_cfg`. The size is None for images that are not square."""
        shape, crop_pct = cfg.get("input_size"), cfg.get("crop_pct")
        square = isinstance(shape, list | tuple) and len(shape) == 3 and shape[1] == shape[2]
        return cls(
            int(shape[1]) if square and shape is not None else None,
            float(crop_pct) if isinstance(crop_pct, int | float) and crop_pct > 0 else None,
            cfg.get("interpolation") or cls.interpolation,
            cfg.get("crop_mode") or cls.crop_mode,
        )

    def transform(self, size: int, crop_pct: float) -> Callable[[Any], Tensor]:
        """The transform of an RGB image of Pillow to uint8 (3, size, size)."""
        made: Callable[[Any], Tensor] = create_transform(
            size,
            is_training=False,
            interpolation=self.interpolation,
            crop_pct=crop_pct,
            crop_mode=self.crop_mode,
            normalize=False,
        )
        return made
