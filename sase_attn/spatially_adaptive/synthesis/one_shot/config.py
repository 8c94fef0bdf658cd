"""`OneShotConfig`: all settings that affect the result of a training on one image, as one frozen record.

The defaults are SinGAN's, which Shen and Wu keep: 2,000 iterations per scale, of three steps of each network; Adam at
5e-4 with betas 0.5 and 0.999, a tenth of that after 1,600; gradient penalty 0.1, reconstruction 10. They take hours on
a CPU; `size=64, scales=3, iterations=150` gives a first impression in minutes.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from sase_attn.settings import (
    ABOVE_0,
    AT_LEAST_0,
    AT_LEAST_1,
    LARGEST_SEED,
    MANY,
    NOT_NEGATIVE,
    Ranges,
    Settings,
    at_most,
    setting,
)

LARGEST_SIDE = 2048
MOST_SCALES = 20
# Fields that do not affect the result, and so may change when a training is resumed.
MAY_CHANGE = ("checkpoint_every", "log_every")


@dataclass(frozen=True)
class OneShotConfig(Settings):
    """Settings of a training on one image; its fields are flags of `sase-attn synthesize one-shot train`.

    Raises:
        ValueError: a value of the wrong type or outside its range; the message names the field.
    """

    size: int = setting(250, "longest side that the image is resized to; a smaller image keeps its size")
    smallest: int = setting(25, "shorter side at the coarsest scale")
    factor: float = setting(0.75, "wanted from one scale to the next coarser; adjusted to end at the smallest")
    scales: int | None = setting(None, "how many scales (none: as many as the factor wants)")
    width: int = setting(32, "channels at the four coarsest scales; twice as many with every four, at most four times")

    iterations: int = setting(2000, "iterations at each scale")
    inner_steps: int = setting(3, "steps of each network in an iteration")
    lr: float = setting(5e-4, "learning rate of Adam; a tenth after four fifths of the iterations")
    betas: tuple[float, ...] = setting((0.5, 0.999), "betas of Adam")
    penalty: float = setting(0.1, "weight of the gradient penalty")
    reconstruction: float = setting(10.0, "weight of the reconstruction of the image")
    noise: float = setting(0.1, "noise of a scale, relative to the error of the reconstruction before it")

    checkpoint_every: int = setting(0, "also save every so many iterations (0: with each scale only)")
    log_every: int = setting(10, "iterations between two lines of the log (0: none)")
    seed: int = setting(0, "seed of first weights and all draws")

    KIND: ClassVar[str] = "one-shot recipe"
    RANGES: ClassVar[Ranges] = (
        (("size", "smallest"), lambda v: 12 <= v <= LARGEST_SIDE, f"from 12 to {LARGEST_SIDE:,}"),
        (("factor",), lambda v: 0.1 <= v <= 0.95, "from 0.1 to 0.95"),
        (("scales",), lambda v: 1 <= v <= MOST_SCALES, f"from 1 to {MOST_SCALES}, or none"),
        (("width",), lambda v: 4 <= v <= 256 and v % 4 == 0, "a multiple of 4 from 4 to 256"),
        (("iterations", "inner_steps"), *AT_LEAST_1),
        (("inner_steps",), *at_most(100)),
        (("checkpoint_every", "log_every", "seed"), *AT_LEAST_0),
        (("iterations", "checkpoint_every", "log_every"), *at_most(MANY)),
        (("seed",), *at_most(LARGEST_SEED)),
        (("lr",), *ABOVE_0),
        (("lr", "penalty", "reconstruction", "noise"), *at_most(1e6)),
        (("penalty", "reconstruction", "noise"), *NOT_NEGATIVE),
        (("betas",), lambda v: len(v) == 2 and all(0 <= beta < 1 for beta in v), "two numbers from 0 to below 1"),
    )

    @property
    def epochs(self) -> int:
        """The number of scales, which are the epochs of a run. Raises ValueError if no image has determined it yet."""
        if self.scales is None:
            raise self.wrong("scales", "a number, as `for_image` gives it", None)
        return self.scales

    def for_image(self, height: int, width: int) -> "OneShotConfig":
        """A copy with the number of scales set for an image that has been resized.

        Raises:
            ValueError: the image's shorter side is below the smallest, or no two scales would differ.
        """
        shorter = min(height, width)
        if shorter < self.smallest:
            raise ValueError(
                f"wanted an image of at least {self.smallest} pixels a side, got {width}x{height} "
                f"with size={self.size}: raise size, or lower smallest"
            )
        ratio = self.smallest / shorter
        most = shorter - self.smallest + 1
        if self.scales is not None and self.scales > most:
            raise self.wrong("scales", f"at most {most} for sides of {self.smallest} to {shorter} pixels", self.scales)
        if self.scales is not None:
            return self
        wanted = 1 + math.ceil(math.log(ratio) / math.log(self.factor) - 1e-9)
        return self.override(scales=min(wanted, most, MOST_SCALES))
