"""`DetectionConfig`: all settings that affect the result of a training of a detector, as one frozen record.

The defaults are the paper's for ResNet-50 (arXiv 2411.08333, section IV-C, and its release's schedule): 12 epochs of
SGD at lr 0.01 for 8 images per step, drops after epochs 8 and 11, a linear warm-up of 500 steps, with stem, first stage
and the statistics of batch norm frozen, images of at most 800/1333 pixels, and flips. Heads are torchvision's.
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
from sase_attn.training.recipes import AMP

DETECTORS = ("faster_rcnn", "mask_rcnn")
CONVENTIONS = ("torchvision", "mmdetection")
LEVELS = 5  # levels of the feature pyramid, with strides 4, 8, 16, 32, 64
# Fields that do not affect the result, and so may change when a training is resumed. The folders of the data may change
# too, if their content is the same: see `check_same_data`.
MAY_CHANGE = (
    "data", "train_images", "train_annotations", "val_images", "val_annotations",
    "workers", "checkpoint_every", "log_every", "imports",
)  # fmt: skip


@dataclass(frozen=True)
class DetectionConfig(Settings):
    """Settings of a detector's data, network and training; its fields are flags of `sase-attn detect train`.

    Raises:
        ValueError: a value of the wrong type or outside its range; the message names the field.
        UnknownNameError: no such detector, convention, optimizer or AMP type.
    """

    data: str = setting("", "a folder with images and COCO annotations of a training and a validation split")
    train_images: str | None = setting(None, "folder of the training images, if not found below data")
    train_annotations: str | None = setting(None, "COCO JSON of the training images, if not found below data")
    val_images: str | None = setting(None, "folder of the validation images, if not found below data")
    val_annotations: str | None = setting(None, "COCO JSON of the validation images, if not found below data")
    on_broken: str = setting("refuse", 'images that are missing or cannot be read: "refuse" or "skip"')

    detector: str = setting("faster_rcnn", f"boxes, or boxes and masks: {', '.join(DETECTORS)}")
    backbone: str = setting("sase_resnet50", "a model of timm's registry with features at strides 4, 8, 16 and 32")
    backbone_kwargs: dict[str, Any] = setting({}, "arguments of the backbone, as key=value")
    init_from: str | None = setting(
        None,
        "start the backbone from a run's folder (its last epoch), a weights file, or \"pretrained\": timm's weights",
    )
    freeze_stages: int = setting(1, "not trained: -1 nothing, 0 the stem, 1 stem and first stage, up to 4")
    frozen_norms: bool = setting(True, "batch norm of the backbone keeps its statistics; its weights train")
    pyramid_width: int = setting(256, "channels of the feature pyramid")
    box_head_width: int = setting(1024, "width of the two layers of the box head")
    mask_head_widths: tuple[int, ...] = setting((256, 256, 256, 256), "channels of the mask head's convolutions")
    mask_predictor_width: int = setting(256, "channels of the mask predictor")
    anchor_sizes: tuple[int, ...] = setting((32, 64, 128, 256, 512), "pixels of the anchors, a size a level")
    anchor_ratios: tuple[float, ...] = setting((0.5, 1.0, 2.0), "height/width of the anchors")
    proposals_train: int = setting(2000, "regions an image that the first stage proposes in training")
    proposals_test: int = setting(1000, "regions an image that it proposes otherwise")
    anchors_per_image: int = setting(256, "anchors an image that the first stage learns from")
    rois_per_image: int = setting(512, "regions an image that the second stage learns from")
    detections_per_image: int = setting(100, "detections an image, at most; COCO counts the best 100 of a class")
    score_threshold: float = setting(0.05, "detections with a lower score are dropped")
    nms_threshold: float = setting(0.5, "IoU above which, of two boxes of a class, that of lower score is dropped")
    conventions: str = setting(
        "torchvision", f"geometry of anchors, regions, masks and resizing: {', '.join(CONVENTIONS)}"
    )

    min_size: tuple[int, ...] = setting(
        (800,), "pixels of the shorter side; of several one is drawn for each training image, the last is for tests"
    )
    max_size: int = setting(1333, "most pixels of the longer side")
    flip: float = setting(0.5, "share of the training images that are mirrored")
    batch_size: int = setting(8, "images a step, over all processes")
    workers: int = setting(0, "processes that load images")

    epochs: int = setting(12, "passes over the training data")
    optimizer: str = setting("momentum", 'an optimizer of timm; "momentum" is SGD with momentum')
    lr: float = setting(0.01, "learning rate after the warm-up, for lr_batch_size images a step")
    lr_batch_size: int | None = setting(8, "batch that lr is for: others scale it linearly (none: lr as it is)")
    momentum: float = setting(0.9, "momentum of the optimizer")
    weight_decay: float = setting(1e-4, "weight decay")
    decay_all: bool = setting(True, "decay biases and norms too")
    lr_drops: tuple[int, ...] = setting((8, 11), "epochs after which the learning rate falls to a tenth")
    warmup_steps: int = setting(500, "steps of linear warm-up")
    warmup_factor: float = setting(0.001, "factor of the learning rate at the first step")
    clip_grad: float | None = setting(None, "largest norm of the gradient")
    amp: str = setting("none", f"autocast type: {', '.join(AMP)} (float16 needs CUDA)")
    seed: int = setting(0, "seed of the initial weights, the batches and all draws")
    checkpoint_every: int = setting(0, "also save every so many steps (0: at the end of each epoch only)")
    log_every: int = setting(20, "a line in the log every so many steps (0: at the end of each epoch only)")
    imports: tuple[str, ...] = setting((), "modules or .py files to import first, which register what is named here")

    KIND: ClassVar[str] = "detection recipe"
    RANGES: ClassVar[Ranges] = (
        (("on_broken",), lambda v: v in ("refuse", "skip"), '"refuse" or "skip"'),
        (("freeze_stages",), lambda v: -1 <= v <= 4, "-1 to 4"),
        (("pyramid_width", "box_head_width", "mask_predictor_width"), lambda v: 1 <= v <= 8192, "1 to 8192"),
        (
            ("mask_head_widths",),
            lambda v: 0 < len(v) <= 16 and all(1 <= width <= 8192 for width in v),
            "1 to 16 widths of 1 to 8192",
        ),
        (
            ("anchor_sizes",),
            lambda v: len(v) == LEVELS and all(1 <= size <= LARGEST_SIZE for size in v),
            f"{LEVELS} sizes, one a level",
        ),
        (("anchor_ratios",), lambda v: 0 < len(v) <= 16 and all(0 < ratio <= 100 for ratio in v), "1 to 16 above 0"),
        (
            ("proposals_train", "proposals_test", "anchors_per_image", "rois_per_image", "detections_per_image"),
            lambda v: 1 <= v <= 100_000,
            "1 to 100,000",
        ),
        (("score_threshold", "flip"), lambda v: 0 <= v <= 1, "0 to 1"),
        (("nms_threshold", "warmup_factor"), lambda v: 0 < v <= 1, "above 0, at most 1"),
        (
            ("min_size",),
            lambda v: 0 < len(v) <= 100 and all(32 <= size <= LARGEST_SIZE for size in v),
            f"sizes from 32 to {LARGEST_SIZE}",
        ),
        (("max_size",), lambda v: 32 <= v <= LARGEST_SIZE, f"32 to {LARGEST_SIZE}"),
        (("epochs", "batch_size", "lr_batch_size"), *AT_LEAST_1),
        (("lr_drops",), lambda v: all(epoch >= 1 for epoch in v) and list(v) == sorted(set(v)), "rising epochs from 1"),
        (("workers", "warmup_steps", "checkpoint_every", "log_every", "seed"), *AT_LEAST_0),
        (("lr", "clip_grad"), *ABOVE_0),
        (("weight_decay",), *NOT_NEGATIVE),
        (("momentum",), *FRACTION),
        (("epochs", "batch_size", "lr_batch_size", "warmup_steps", "checkpoint_every", "log_every"), *at_most(MANY)),
        (("lr", "clip_grad", "weight_decay"), *at_most(LARGEST_NUMBER)),
        (("seed",), *at_most(LARGEST_SEED)),
        (("workers",), *at_most(1024)),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_name("detector", "detector", DETECTORS)
        self.check_name("conventions", "convention", CONVENTIONS)
        self.check_name("optimizer", "optimizer", list_optimizers())
        self.check_name("amp", "AMP type", AMP)
        if max(self.min_size) > self.max_size:
            raise self.wrong("max_size", f"at least min_size, {max(self.min_size)}", self.max_size)

    @property
    def has_masks(self) -> bool:
        """Whether the detector also predicts masks."""
        return self.detector == "mask_rcnn"

    @property
    def layer_decay(self) -> None:
        """None: all layers of a detector have the same learning rate."""
        return None

    @property
    def scaled_lr(self) -> float:
        """The learning rate for this batch size: `lr` scaled linearly from that for `lr_batch_size`."""
        return self.lr if self.lr_batch_size is None else self.lr * self.batch_size / self.lr_batch_size

    @classmethod
    def get(cls, name: str | os.PathLike[str]) -> "DetectionConfig":
        """A configuration by name, or from a `.json` file. Raises UnknownNameError, or FileNotFoundError."""
        return cls.read(name, DETECTION_RECIPES)


_R50 = DetectionConfig(init_from="pretrained")
_R101 = replace(_R50, backbone="sase_resnet101", batch_size=4, lr=0.005, lr_batch_size=4)
_SMALL = DetectionConfig(
    backbone="sase_resnet18",
    frozen_norms=False,
    freeze_stages=-1,
    pyramid_width=64,
    box_head_width=256,
    mask_head_widths=(64, 64),
    mask_predictor_width=64,
    anchor_sizes=(16, 32, 64, 128, 256),
    proposals_train=500,
    proposals_test=300,
    rois_per_image=96,
    min_size=(320,),
    max_size=427,
    batch_size=2,
    lr=0.01,
    lr_batch_size=2,
    lr_drops=(5, 7),
    epochs=8,
    warmup_steps=50,
    clip_grad=10.0,
)

DETECTION_RECIPES = {
    "faster-rcnn-r50": _R50,
    "faster-rcnn-r101": _R101,
    "mask-rcnn-r50": replace(_R50, detector="mask_rcnn"),
    "mask-rcnn-r101": replace(_R101, detector="mask_rcnn"),
    "faster-rcnn-small": _SMALL,
    "mask-rcnn-small": replace(_SMALL, detector="mask_rcnn"),
}
"""The configurations of a detector by name; `DetectionConfig.get` also reads files."""
