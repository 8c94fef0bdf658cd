"""The configuration inside a checkpoint of mmdetection: settings of its detector, and those not supported here.

mmdetection 2 and 3 write it into `meta`, as Python text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sase_attn.detection.authors.config_text import value_at, values_of
from sase_attn.quoting import enumerated

_MEAN, _STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # of red, green and blue, in values from 0 to 255
MEAN, STD = tuple(value / 255 for value in _MEAN), tuple(value / 255 for value in _STD)
_STRIDES = [4, 8, 16, 32, 64]

# Required values by their place in the configuration. A setting that is missing is assumed to have its required value.
_WANTED: dict[str, Sequence[Any]] = {
    "model.type": ("FasterRCNN", "MaskRCNN"),
    "model.backbone.type": ("ResNet",),
    "model.backbone.style": ("pytorch",),
    "model.backbone.strides": ([1, 2, 2, 2],),
    "model.backbone.dilations": ([1, 1, 1, 1],),
    "model.backbone.out_indices": ([0, 1, 2, 3],),
    "model.backbone.conv_cfg.type": ("Conv2d", "Conv"),
    "model.backbone.norm_cfg.type": ("BN", "SyncBN"),
    "model.backbone.norm_cfg.eps": (1e-5,),
    "model.neck.type": ("FPN",),
    "model.neck.start_level": (0,),
    "model.neck.num_outs": (5,),
    "model.neck.add_extra_convs": (False,),
    "model.neck.upsample_cfg.mode": ("nearest",),
    "model.rpn_head.type": ("RPNHead",),
    "model.rpn_head.anchor_generator.type": ("AnchorGenerator",),
    "model.rpn_head.anchor_generator.strides": (_STRIDES,),
    "model.rpn_head.anchor_generator.center_offset": (0,),
    "model.rpn_head.anchor_generator.octave_base_scale": (None,),
    "model.rpn_head.bbox_coder.type": ("DeltaXYWHBBoxCoder",),
    "model.rpn_head.bbox_coder.target_means": ([0, 0, 0, 0],),
    "model.rpn_head.bbox_coder.target_stds": ([1, 1, 1, 1],),
    "model.rpn_head.loss_cls.use_sigmoid": (True,),
    "model.roi_head.type": ("StandardRoIHead",),
    "model.roi_head.bbox_roi_extractor.type": ("SingleRoIExtractor",),
    "model.roi_head.bbox_roi_extractor.finest_scale": (56,),
    "model.roi_head.bbox_roi_extractor.featmap_strides": (_STRIDES[:4],),
    "model.roi_head.bbox_roi_extractor.roi_layer.type": ("RoIAlign",),
    "model.roi_head.bbox_roi_extractor.roi_layer.output_size": (7,),
    "model.roi_head.bbox_roi_extractor.roi_layer.sampling_ratio": (0,),
    "model.roi_head.bbox_roi_extractor.roi_layer.aligned": (True,),
    "model.roi_head.bbox_roi_extractor.roi_layer.out_size": (7,),
    "model.roi_head.bbox_roi_extractor.roi_layer.sample_num": (0,),
    "model.roi_head.bbox_head.type": ("Shared2FCBBoxHead", "ConvFCBBoxHead"),
    "model.roi_head.bbox_head.cls_predictor_cfg.type": ("Linear",),
    "model.roi_head.bbox_head.reg_predictor_cfg.type": ("Linear",),
    "model.roi_head.bbox_head.bbox_coder.type": ("DeltaXYWHBBoxCoder",),
    "model.roi_head.bbox_head.bbox_coder.target_means": ([0, 0, 0, 0],),
    "model.roi_head.bbox_head.bbox_coder.target_stds": ([0.1, 0.1, 0.2, 0.2],),
    "model.roi_head.bbox_head.loss_cls.use_sigmoid": (False,),
    "model.roi_head.bbox_head.reg_class_agnostic": (False,),
    "model.roi_head.mask_roi_extractor.finest_scale": (56,),
    "model.roi_head.mask_roi_extractor.roi_layer.type": ("RoIAlign",),
    "model.roi_head.mask_roi_extractor.roi_layer.output_size": (14,),
    "model.roi_head.mask_roi_extractor.roi_layer.sampling_ratio": (0,),
    "model.roi_head.mask_roi_extractor.roi_layer.aligned": (True,),
    "model.roi_head.mask_roi_extractor.roi_layer.out_size": (14,),
    "model.roi_head.mask_roi_extractor.roi_layer.sample_num": (0,),
    "model.roi_head.mask_head.predictor_cfg.type": ("Conv",),
    "model.roi_head.mask_head.type": ("FCNMaskHead",),
    "model.roi_head.mask_head.class_agnostic": (False,),
    "model.test_cfg.rpn.nms.type": ("nms",),
    "model.test_cfg.rpn.nms.iou_threshold": (0.7,),
    "model.test_cfg.rpn.nms_thr": (0.7,),
    "model.test_cfg.rpn.nms_across_levels": (False,),
    "model.test_cfg.rpn.min_bbox_size": (0,),
    "model.test_cfg.rcnn.nms.type": ("nms",),
    "model.test_cfg.rcnn.mask_thr_binary": (0.5,),
    "model.data_preprocessor.mean": (_MEAN,),
    "model.data_preprocessor.std": (_STD,),
    "model.data_preprocessor.bgr_to_rgb": (True,),
    "model.data_preprocessor.pad_size_divisor": (32,),
    "model.data_preprocessor.pad_value": (0,),
    "img_norm_cfg.mean": (_MEAN,),
    "img_norm_cfg.std": (_STD,),
    "img_norm_cfg.to_rgb": (True,),
}
# Places of the fields of `DetectionConfig`; the second places are those of early versions of mmdetection 2.
_FIELDS = {
    "model.rpn_head.anchor_generator.ratios": "anchor_ratios",
    "model.test_cfg.rpn.max_per_img": "proposals_test",
    "model.test_cfg.rpn.max_num": "proposals_test",
    "model.test_cfg.rcnn.score_thr": "score_threshold",
    "model.test_cfg.rcnn.nms.iou_threshold": "nms_threshold",
    "model.test_cfg.rcnn.nms.iou_thr": "nms_threshold",
    "model.test_cfg.rcnn.max_per_img": "detections_per_image",
}


@dataclass(frozen=True)
class CheckpointMeta:
    """The information in a checkpoint besides its weights.

    Attributes:
        fields: values of `DetectionConfig` that differ from those of the paper's detectors.
        classes: names of the classes, if the checkpoint has them.
        has_config: whether the checkpoint has a configuration at all.
    """

    fields: dict[str, Any]
    classes: tuple[str, ...] | None
    has_config: bool


def read_meta(checkpoint: object, *, source: str) -> CheckpointMeta:
    """Read the `meta` of a checkpoint.

    Args:
        checkpoint: the loaded file.
        source: its origin, for the error message.

    Raises:
        ValueError: the configuration is of a detector that cannot be built here; each reason is named.
    """
    meta = checkpoint.get("meta") if isinstance(checkpoint, Mapping) else None
    meta = meta if isinstance(meta, Mapping) else {}
    text = next((meta[name] for name in ("cfg", "config") if isinstance(meta.get(name), str)), None)
    config = {} if text is None else values_of(text)
    if isinstance(model := config.get("model"), dict):
        model.setdefault("test_cfg", config.get("test_cfg"))  # its place in early versions of mmdetection 2
    problems = [
        f"{place}={value!r}, wanted {enumerated(map(repr, wanted), 'or')}"
        for place, wanted in _WANTED.items()
        if (value := value_at(config, place)) is not None and not any(_equal(value, each) for each in wanted)
    ]
    fields = _fields(config, problems)
    if problems:
        raise ValueError(f"{source} is of a detector that cannot be made equal: {'; '.join(problems)}")
    return CheckpointMeta(fields, _classes(meta), bool(config))


def _fields(config: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Fields of `DetectionConfig` that the configuration has a value for; adds to the problems."""
    found: dict[str, Any] = {}
    if (scales := value_at(config, "model.rpn_head.anchor_generator.scales")) is not None:
        if isinstance(scales, list) and len(scales) == 1 and isinstance(scales[0], int):
            found["anchor_sizes"] = tuple(stride * scales[0] for stride in _STRIDES)
        else:
            problems.append(f"model.rpn_head.anchor_generator.scales={scales!r}, wanted one whole number")
    found |= {field: value for place, field in _FIELDS.items() if (value := value_at(config, place)) is not None}
    before, after = value_at(config, "model.test_cfg.rpn.nms_pre"), found.get("proposals_test")
    if None not in (before, after) and before != after:
        problems.append(f"model.test_cfg.rpn.nms_pre={before!r}, wanted as many as proposals are kept, {after!r}")
    sizes = {tuple(sorted(size)) for size in _sizes(config.get("test_pipeline"))}
    if len(sizes) == 1:
        ((shorter, longer),) = sizes
        found |= {"min_size": (shorter,), "max_size": longer}
    elif sizes:
        problems.append(f"test_pipeline has several sizes: {', '.join(map(str, sorted(sizes)))}")
    return found


def _classes(meta: Mapping[str, Any]) -> tuple[str, ...] | None:
    of_data = meta.get("dataset_meta")
    found = meta.get("CLASSES")
    if isinstance(of_data, Mapping):
        found = of_data.get("classes", of_data.get("CLASSES"))
    is_list = isinstance(found, list | tuple) and all(isinstance(name, str) for name in found)
    return tuple(found) if is_list and found else None


def _sizes(value: object) -> list[list[int]]:
    """The sizes, as pairs of numbers, to which a pipeline resizes images."""
    if isinstance(value, Mapping):
        own = [value[name] for name in ("img_scale", "scale") if _is_pair(value.get(name))]
        return own + [size for inner in value.values() for size in _sizes(inner)]
    if isinstance(value, list):
        return [size for inner in value for size in _sizes(inner)]
    return []


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(side, int) for side in value)


def _equal(value: Any, wanted: Any) -> bool:
    if isinstance(value, list) and isinstance(wanted, list):
        return len(value) == len(wanted) and all(map(_equal, value, wanted))
    return bool(value == wanted)
