"""`SearchConfig`: all settings of a search as a frozen dataclass that JSON can hold; `SEARCHES` holds those with names.

`paper` is the recipe of the paper's text (arXiv 2411.08333) in the text's space. Where the text is silent it does
what the authors' script does: Adam's betas and weight decay, the gradient clip, the order of the two steps, the initial
weights. `release` is that script with its defaults: 100 epochs, first order, seed 2, the first half of the
images for the weights, and a validation batch drawn afresh at every step. With order 2 it is the run that the
published genotype came from, whose last stage takes no virtual step: that is a fault of the script, and `unmoved`
reproduces it.

The others are ours, and leave out the channel squeeze `l2norm`, which is a constant. `standard` searches without a
super-network, by the method that found the best genotypes in replays of recorded trainings. `quick` does the same with
a small network, small images and trainings of one epoch, for a first try in minutes; its verdict holds for such
trainings only. `mended` is a super-network search without two known faults of the published one: alpha there prefers
operations by the factor that their gates start from, and norms do not start as in retraining. In `mended` gates are
centred, and norms start as in retraining.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from sase_attn.genotype import SPACES
from sase_attn.imports import import_modules
from sase_attn.records import read_record
from sase_attn.search.space import SearchSpace
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

HVP = ("fd", "exact")
SELECTIONS = ("argmax", "perturbation", "score")
SHARED_WEIGHTS = ("darts", "single-path")
BY_TRAININGS = ("race", "additive", "tpe", "random")
_OF_NETWORKS = ("method", "model", "model_kwargs", "after", "space", "without", "seed", "imports")
_OF_DATA = ("data", "size", "augment", "color_jitter", "workers", "on_broken")
_OF_TRAININGS = ("trainings", "signal", "signal_seeds", "train_epochs")
_OF_ALPHA = (
    *("order", "hvp", "radius", "unmoved", "alpha_lr", "alpha_betas", "alpha_weight_decay", "alpha_std"),
    *("beta", "entropy", "curvature", "stop_ratio", "select", "tune_epochs"),
)
VAL_ORDERS = ("epoch", "fresh")
POSITION_WEIGHTS = ("7x7", "map")
CONV_INITS = ("timm", "torch")
GATE_INITS = ("drawn", "centred", "constant")
LAST_NORM_INITS = ("one", "network")
SPLITS = ("drawn", "first")
MAY_CHANGE = (
    *("data", "workers", "log_every", "imports"),
    *("select", "select_images", "candidates", "tune_epochs"),
    *("trainings", "signal"),
)
"""Fields that may change when a search is resumed, as what is already trained does not depend on them. `data` may name
another place, but must be the same images: see `check_same_data`."""
# What a generator is for. This number and the seed together are the key of its random numbers.
SPLIT, ALPHA_DRAW, WEIGHT_ORDER, ALPHA_ORDER, PATH_DRAW = range(5)


@dataclass(frozen=True)
class SearchConfig(Settings):
    """All settings of a search: method, network, space, data and training. Fields are flags of `sase-attn search`.

    The defaults are the `paper` recipe on the embedded images and in the space `release`, from the initial weights that
    our own trainings have, with weights per position of 7×7, by the exact gradient of alpha, and without a look for
    signal.

    Raises:
        ValueError: a value of the wrong type or outside its range; the message names the field.
        UnknownNameError: no such space, operation, selection or way to take a derivative.
        ImportError, FileNotFoundError: see `import_modules`.
    """

    method: str = setting(
        "darts",
        'how to search: "darts", by the gradient of alpha; "single-path", by weights that random genotypes share, '
        f"without alpha; or by trainings from scratch: {', '.join(BY_TRAININGS)}",
    )
    model: str = setting("resnet20_cifar", "the network to search in, without attention: a model of timm's registry")
    model_kwargs: dict[str, Any] = setting({}, "arguments of the model, as key=value")
    after: tuple[str, ...] = setting(
        ("layer*.*.bn2",), "patterns of the layers that a block follows (bottlenecks: bn3)"
    )
    space: str = setting("release", f"operations: {', '.join(SPACES)}, or a .json file that SearchSpace.to_json wrote")
    without: tuple[str, ...] = setting(
        (), 'operations to leave out, as "l2norm" or, of one set, "channel_squeeze:l2norm"'
    )

    position_weights: str = setting(
        "7x7",
        'size of weights per position, where operations have such: "7x7", resized to each map, or that of each "map"',
    )
    conv_init: str = setting(
        "timm",
        'first weights of convolutions: "timm" (N(0, 2/fan-out); the two weights of mixers 0.5), or "torch"\'s own',
    )
    gate_init: str = setting(
        "drawn",
        'how the gates of the output start: "drawn", as published; "centred", drawn and shifted so that all have the '
        'same gain; or "constant", as in retraining',
    )
    last_norm_init: str = setting(
        "one",
        'where norms before a block start that are zero in the network: at "one", as published, or as in the '
        '"network", as in retraining; alpha then has no gradient at first, see warmup_epochs',
    )

    data: str = setting("embedded", "a data set's name or an image folder; its training images are searched on")
    size: int | None = setting(None, "height and width of the images (default: the data's own)")
    images: int | None = setting(None, "training images to use, drawn by the seed (default: all)")
    train_portion: float = setting(0.5, "fraction of the images that trains the weights; the rest trains alpha")
    split: str = setting(
        "drawn", 'which images train the weights: "drawn" by the seed, or the "first" in the order of the data'
    )
    augment: str = setting("cifar", 'of images: "cifar" (crop, flip), "imagenet" (resized crop, flip) or "none"')
    color_jitter: tuple[float, ...] | None = setting(None, "strengths of colour jitter")
    batch_size: int = setting(128, "images of each of the two batches of a step, over all processes")
    val_order: str = setting("epoch", 'batches for alpha: each image once an "epoch", or drawn "fresh" at every step')
    workers: int = setting(0, "processes that load images")
    on_broken: str = setting("refuse", 'broken images: "refuse" or "skip"')

    trainings: int = setting(42, "budget of a search by trainings from scratch, with those of the look for signal")
    signal: int = setting(
        0, "first up to so many trainings from scratch, to see whether genotypes differ: 28, or 0 for none"
    )
    signal_seeds: int = setting(4, "trainings of each genotype in the look for signal, each with another seed")
    train_epochs: int = setting(10, "passes of each training from scratch over all training images")

    epochs: int = setting(50, "passes over the images that train the weights")
    order: int = setting(2, "order of alpha's gradient: 1, or 2, which goes through a step of the weights")
    hvp: str = setting(
        "exact", 'how the second order is computed: "exact", or "fd", a finite difference as in the paper'
    )
    radius: float = setting(1e-2, "radius of the finite difference: weights move by radius / |v|")
    unmoved: tuple[str, ...] = setting(
        (), "patterns of modules whose weights take no virtual step, as the last stage (layer3) in the released code"
    )
    lr: float = setting(0.025, "learning rate of the weights (SGD), falling by a cosine from epoch to epoch")
    min_lr: float = setting(1e-4, "learning rate at the end of the cosine")
    momentum: float = setting(0.9, "momentum of SGD")
    weight_decay: float = setting(5e-4, "weight decay of the weights")
    clip_grad: float | None = setting(5.0, "largest norm of the weights' gradient")
    alpha_lr: float = setting(3e-4, "learning rate of alpha (Adam)")
    alpha_betas: tuple[float, ...] = setting((0.5, 0.999), "betas of alpha's Adam")
    alpha_weight_decay: float = setting(1e-3, "weight decay of alpha")
    alpha_std: float = setting(1e-3, "standard deviation of the normal draw that alpha starts from")
    warmup_epochs: int = setting(0, "first epochs in which only the weights are trained")
    beta: float = setting(0.0, "strength at the last epoch of Beta-DARTS' penalty on alpha, which grows from 0")
    entropy: float = setting(0.0, "strength at the last epoch of a penalty on the entropy of alpha, which grows from 0")
    curvature: int = setting(
        0, "power iterations an epoch for the largest eigenvalue of the Hessian of alpha (0: none)"
    )
    stop_ratio: float | None = setting(
        None, "stop once the eigenvalue of `curvature` has grown: old / new below this (0.75 in RobustDARTS)"
    )
    max_loss: float = setting(1e3, "a loss above this counts as diverged")

    select: str = setting("argmax", f"how the genotype is chosen: {', '.join(SELECTIONS)}")
    select_images: int = setting(2000, "images on which sub-networks are compared, of those that train alpha")
    tune_epochs: int = setting(1, "epochs of the weights after each edge that a selection by perturbation decides")
    candidates: int = setting(
        100, "random genotypes that a selection by score compares with that of alpha; single-path always chooses so"
    )

    reference: bool = setting(False, "evaluate operations one by one: the definition, slower")
    compile: bool = setting(False, "compile the blocks")
    channels_last: bool = setting(False, "NHWC memory")
    seed: int = setting(0, "seed of the split, the initial weights, alpha and the batches")
    log_every: int = setting(10, "a line in the log every so many steps (0: at the end of each epoch only)")
    imports: tuple[str, ...] = setting((), "modules or .py files to import first, which register what is named here")

    KIND: ClassVar[str] = "search"
    RANGES: ClassVar[Ranges] = (
        (("epochs", "batch_size", "images", "size", "select_images", "trainings", "train_epochs"), *AT_LEAST_1),
        (("signal",), *AT_LEAST_0),
        (("signal_seeds",), lambda v: v >= 2, "at least 2"),
        (("workers", "warmup_epochs", "curvature", "tune_epochs", "candidates", "seed", "log_every"), *AT_LEAST_0),
        (("lr", "alpha_lr", "radius", "clip_grad", "stop_ratio", "max_loss"), *ABOVE_0),
        (("min_lr", "weight_decay", "alpha_weight_decay", "alpha_std", "beta", "entropy"), *NOT_NEGATIVE),
        (("momentum",), *FRACTION),
        (("epochs", "batch_size", "images", "warmup_epochs", "curvature", "log_every"), *at_most(MANY)),
        (("select_images", "tune_epochs", "candidates", "trainings", "signal", "train_epochs"), *at_most(MANY)),
        (("signal_seeds",), *at_most(100)),  # methods number their own seeds from behind these
        (("lr", "min_lr", "alpha_lr", "radius", "clip_grad", "stop_ratio", "max_loss"), *at_most(LARGEST_NUMBER)),
        (("weight_decay", "alpha_weight_decay", "alpha_std", "beta", "entropy"), *at_most(LARGEST_NUMBER)),
        (("seed",), *at_most(LARGEST_SEED)),
        (("size",), *at_most(LARGEST_SIZE)),
        (("workers",), *at_most(1024)),
        (("train_portion",), lambda v: 0 < v < 1, "a number between 0 and 1"),
        (("alpha_betas",), lambda v: len(v) == 2 and all(0 <= b < 1 for b in v), "two numbers from 0 to below 1"),
        (("order",), lambda v: v in (1, 2), "1 or 2"),
        (("after",), lambda v: len(v) > 0, "one pattern or more"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        import_modules(self.imports)  # before the names of the space are looked up
        self.check_name("method", "search method", (*SHARED_WEIGHTS, *BY_TRAININGS))
        self.check_name("hvp", "hvp", HVP)
        self.check_name("select", "selection", SELECTIONS)
        self.check_name("val_order", "val_order", VAL_ORDERS)
        self.check_name("position_weights", "position_weights", POSITION_WEIGHTS)
        self.check_name("conv_init", "conv_init", CONV_INITS)
        self.check_name("gate_init", "gate_init", GATE_INITS)
        self.check_name("last_norm_init", "last_norm_init", LAST_NORM_INITS)
        self.check_name("split", "split", SPLITS)
        if self.method in BY_TRAININGS and self.signal > self.trainings:
            raise self.wrong("signal", f"at most the {self.trainings} trainings in all, or 0 for none", self.signal)
        if self.warmup_epochs >= self.epochs:
            raise self.wrong("warmup_epochs", f"fewer than {self.epochs} epochs", self.warmup_epochs)
        if self.stop_ratio is not None and not self.curvature:
            raise self.wrong("curvature", "power iterations, 10 for example, with stop_ratio", self.curvature)
        if self.compile and self.hvp == "exact" and self.order == 2:
            raise self.wrong("compile", 'no compiled blocks with hvp "exact", but with "fd"', self.compile)
        if self.method == "single-path" and self.compile:
            raise self.wrong("compile", "no compiled blocks with single-path, whose steps differ", self.compile)
        if self.method == "single-path" and not self.candidates:
            raise self.wrong("candidates", "one genotype or more to choose from with single-path", self.candidates)
        self.search_space()

    @classmethod
    def get(cls, name: str | os.PathLike[str]) -> "SearchConfig":
        """A recipe by name, or from a `.json` file. Raises UnknownNameError, or FileNotFoundError."""
        return cls.read(name, SEARCHES)

    @property
    def without_effect(self) -> frozenset[str]:
        """The fields that the method does not read."""
        if self.method in BY_TRAININGS:
            read = {*_OF_NETWORKS, *_OF_DATA, *_OF_TRAININGS}
            return frozenset(item.name for item in fields(self)) - read
        unread = {"trainings"} | (set() if self.signal else {"signal_seeds", "train_epochs"})
        return frozenset(unread | (set(_OF_ALPHA) if self.method == "single-path" else set()))

    def search_space(self) -> SearchSpace:
        """The space, except for the operations of `without`. Raises as `SearchSpace` does."""
        space = read_record(self.space, SearchSpace) if self.space.endswith(".json") else SearchSpace.get(self.space)
        return space.without(*self.without)


_CONSTANT = ("channel_squeeze:l2norm",)
_MENDED: dict[str, Any] = {"gate_init": "centred", "last_norm_init": "network"}
SEARCHES: Mapping[str, SearchConfig] = {
    "quick": SearchConfig(
        method="additive",
        model_kwargs={"layers": [1, 1, 1]},
        without=_CONSTANT,
        size=16,
        images=4000,
        batch_size=64,
        epochs=4,
        lr=0.1,
        min_lr=1e-2,
        alpha_lr=0.02,
        select_images=1000,
        **_MENDED,
        warmup_epochs=1,
        signal=28,
        trainings=32,
        train_epochs=1,
    ),
    "standard": SearchConfig(method="additive", data="cifar10", without=_CONSTANT, signal=28, trainings=84),
    "mended": SearchConfig(data="cifar10", without=_CONSTANT, **_MENDED, warmup_epochs=5, signal=28),
    "paper": SearchConfig(
        data="cifar10", space="paper", position_weights="map", conv_init="torch", hvp="fd", signal=28
    ),
    "release": SearchConfig(
        data="cifar10",
        position_weights="map",
        conv_init="torch",
        split="first",
        epochs=100,
        order=1,
        val_order="fresh",
        hvp="fd",
        unmoved=("layer3",),
        seed=2,
        signal=28,
    ),
}
"""The configurations of a search by name; `SearchConfig.get` also reads files."""
