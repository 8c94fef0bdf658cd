"""`SynthesisConfig`: all settings that affect the result of a training for synthesis, as one frozen record.

The defaults are those of FastGAN's and of Shen and Wu's code: Adam at 2e-4 with betas 0.5 and 0.999, batch 8, latent
256, width 64, an average with decay 0.999. The reconstruction loss is theirs only with `lpips`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from sase_attn.quoting import enumerated
from sase_attn.settings import (
    ABOVE_0,
    AT_LEAST_0,
    AT_LEAST_1,
    FRACTION,
    LARGEST_SEED,
    MANY,
    NOT_NEGATIVE,
    Ranges,
    Settings,
    at_most,
    setting,
)
from sase_attn.spatially_adaptive.synthesis.augment import AUGMENTATIONS
from sase_attn.spatially_adaptive.synthesis.generator import SIZES, SKIPS
from sase_attn.spatially_adaptive.synthesis.reconstruction import RECONSTRUCTIONS

LARGEST_BATCH = 64
# Fields that do not affect the two networks, and so may change when a training is resumed. The folder of `images` may
# change too, if its content is the same: see `check_same_data`.
MAY_CHANGE = (
    "images", "steps", "lpips_weights", "extractor_weights",
    "keep_snapshots", "checkpoint_every", "log_every", "imports",
)  # fmt: skip


@dataclass(frozen=True)
class SynthesisConfig(Settings):
    """Settings of a training for synthesis; its fields are flags of `sase-attn synthesize train`.

    Raises:
        ValueError: a value of the wrong type or outside its range; the message names the field.
        UnknownNameError: no such skip, augmentation or reconstruction.
    """

    images: str = setting("", "a folder of images; those in folders below it count too")
    size: int = setting(256, f"height and width: {', '.join(map(str, SIZES))}")
    on_broken: str = setting("refuse", 'images that cannot be read: "refuse" or "skip"')

    skip: str = setting("spatial", 'what small maps do to large ones: "sle" weighs channels, "spatial" also by place')
    width: int = setting(64, "channels at 128x128; 16 learns a hundred small images on a CPU")
    latent: int = setting(256, "numbers that an image is made from")

    batch_size: int = setting(8, "images a step; 1 to 8 are usual")
    steps: int = setting(50_000, "steps of both networks")
    lr: float = setting(2e-4, "learning rate of Adam, for both networks")
    betas: tuple[float, ...] = setting((0.5, 0.999), "betas of Adam")
    average: float = setting(0.999, "decay of the averaged generator, whose images are kept")
    augment: tuple[str, ...] = setting(
        AUGMENTATIONS, "how real and made images are changed before they are judged: color, translation, or nothing"
    )
    flip: bool = setting(True, "mirror half of the images; not for text or left hands")
    reconstruction: str = setting("pixels", 'how drawings of real images are judged: "pixels" or "lpips"')
    lpips_weights: str | None = setting(None, "a file with torchvision's VGG16 weights, for lpips")

    sample_every: int = setting(500, "steps between two sheets of samples, with weights and KID")
    keep_snapshots: int = setting(3, "how many of the last weights to keep, beside the best")
    score_images: int = setting(100, "images that KID is measured on at each sheet (0: none, and no best is kept)")
    extractor: str = setting(
        "efficientnet_lite0", 'what KID is measured by: "efficientnet_lite0", "inception" or a name you registered'
    )
    extractor_weights: str | None = setting(None, "a file with the extractor's weights, for inception")
    checkpoint_every: int = setting(0, "also save every so many steps (0: with each sheet only)")
    log_every: int = setting(10, "steps between two lines of the log (0: none)")
    seed: int = setting(0, "seed of first weights, order and all draws")
    imports: tuple[str, ...] = setting((), "modules to import before names are looked up")

    KIND: ClassVar[str] = "synthesis recipe"
    RANGES: ClassVar[Ranges] = (
        (("size",), lambda v: v in SIZES, f"one of {', '.join(map(str, SIZES))}"),
        (("width",), lambda v: 1 <= v <= 256, "from 1 to 256"),
        (("latent",), lambda v: 1 <= v <= 4096, "from 1 to 4096"),
        (("batch_size", "steps", "sample_every"), *AT_LEAST_1),
        (("batch_size",), *at_most(LARGEST_BATCH)),
        (("keep_snapshots", "score_images", "checkpoint_every", "log_every", "seed"), *AT_LEAST_0),
        (("steps", "sample_every", "keep_snapshots", "checkpoint_every", "log_every"), *at_most(MANY)),
        (("score_images",), lambda v: v == 0 or 10 <= v <= 50_000, "0, or from 10 to 50,000"),
        (("seed",), *at_most(LARGEST_SEED)),
        (("lr",), *ABOVE_0),
        (("lr",), *NOT_NEGATIVE),
        (("average",), *FRACTION),
        (("betas",), lambda v: len(v) == 2 and all(0 <= beta < 1 for beta in v), "two numbers from 0 to below 1"),
        (("on_broken",), lambda v: v in ("refuse", "skip"), '"refuse" or "skip"'),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_name("skip", "skip", SKIPS)
        self.check_name("reconstruction", "reconstruction", RECONSTRUCTIONS)
        for name in self.augment:
            if name not in AUGMENTATIONS:
                raise self.wrong("augment", enumerated(AUGMENTATIONS), name)
        if self.steps % self.round_steps:
            below = self.steps // self.round_steps * self.round_steps
            raise self.wrong(
                "steps", f"a multiple of sample_every, such as {below:,} or {below + self.round_steps:,}", self.steps
            )

    @property
    def round_steps(self) -> int:
        """Steps between two sheets of samples."""
        return min(self.sample_every, self.steps)

    @property
    def epochs(self) -> int:
        """The number of sheets, which is the number of rounds of the run."""
        return self.steps // self.round_steps

    def network(self) -> dict[str, Any]:
        """The arguments of `Generator`."""
        named = {name: getattr(self, name) for name in ("size", "width", "latent", "skip")}
        return {**named, "style_norm": self.batch_size > 1}
