"""Load and import detectors that the authors of SASE (arXiv 2411.08333), or others, trained with mmdetection 2 or 3."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from sase_attn.detection.authors.checkpoint_meta import MEAN, STD, CheckpointMeta, read_meta
from sase_attn.detection.authors.keys import from_mmdetection
from sase_attn.detection.config import DETECTION_RECIPES, DetectionConfig
from sase_attn.detection.network import create_detector
from sase_attn.detection.saved import LoadedDetector, save_detector
from sase_attn.genotype import Genotype, genotypes
from sase_attn.weights.authors import from_authors, genotype_of
from sase_attn.weights.files import new_safetensors, read_file
from sase_attn.weights.fitting import fitted
from sase_attn.weights.state_dicts import check_state_dict
from sase_attn.weights.wrappers import StateDict, state_dict_of

_BODY = "backbone.body."
_RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
_COCO = {
    name: number
    for number, name in enumerate(FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"])
    if name not in ("__background__", "N/A")
}


class ImportedDetector(NamedTuple):
    """What was written: the number of tensors, the detector's configuration and classes, and what was assumed.

    `assumed` is what the checkpoint does not say itself, one line for each.
    """

    tensors: int
    config: DetectionConfig
    classes: tuple[str, ...]
    assumed: tuple[str, ...]


def load_authors_detector(
    source: str | os.PathLike[str],
    *,
    backbone: str | None = None,
    backbone_kwargs: Mapping[str, Any] | None = None,
    genotype: Genotype | None = None,
    classes: Sequence[str] | None = None,
) -> tuple[LoadedDetector, tuple[str, ...]]:
    """Load a checkpoint of mmdetection's Faster or Mask R-CNN: the detector in eval mode, and assumptions about it.

    The detector computes what it does in mmdetection: see `sase_attn.detection.network.mmdetection`. If it is trained
    further here, it keeps that geometry, but uses the losses and random draws of torchvision. Nothing in the file is
    executed.

    Args:
        source: the checkpoint, such as the authors' `pnorm_det_r50.pth`.
        backbone: a model of timm's registry; by default the ResNet, with or without SASE, that fits the weights.
        backbone_kwargs: arguments of the backbone.
        genotype: genotype of the attention; by default the searched one.
        classes: names of the classes by label, if the file does not hold them; by default COCO's if there are 80.

    Raises:
        FileNotFoundError: no such file. IsADirectoryError: it is a folder.
        ValueError: the file is unreadable, of another kind of detector or another genotype, or does not fit the
            backbone; or its configuration has a setting that cannot be reproduced. Each reason is named.
        UnknownNameError: no such backbone.
    """
    name = str(source)
    checkpoint = read_file(source, leave_out=True)
    meta = read_meta(checkpoint, source=name)
    weights = from_mmdetection(state_dict_of(checkpoint, source=name), source=name)
    arguments: dict[str, Any] = dict(backbone_kwargs or {})
    if any(".attention." in key for key in weights):
        genotype = genotype_of(weights, genotype, source=name)
        weights = from_authors(weights, genotype)
        if genotype != genotypes["sase"]:
            arguments["genotype"] = str(genotype)
    elif genotype is not None:
        raise ValueError(f"{name} has no attention of the authors: leave the genotype out")
    config = _config(weights, meta, backbone or _resnet(weights, name), arguments, name)
    names, assumed = _names(weights, meta, classes, name)
    with torch.random.fork_rng(devices=[]):
        model = create_detector(config, len(names), echo=lambda line: None)
    model.transform.image_mean, model.transform.image_std = list(MEAN), list(STD)
    weights = fitted(weights, model, source=name)
    check_state_dict(weights, model, source=name)
    model.load_state_dict(weights)
    if not meta.has_config:
        assumed = ("the configuration: that of the authors, mmdetection's for a ResNet with FPN", *assumed)
    ids = tuple(_COCO.values()) if names == tuple(_COCO) else tuple(range(1, len(names) + 1))
    return LoadedDetector(model.eval(), config, names, ids), assumed


def import_detector(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    backbone: str | None = None,
    backbone_kwargs: Mapping[str, Any] | None = None,
    genotype: Genotype | None = None,
    classes: Sequence[str] | None = None,
    overwrite: bool = False,
) -> ImportedDetector:
    """Write the detector of `load_authors_detector` to a file that `load_detector` and the commands read.

    Args:
        source: as for `load_authors_detector`.
        output: the `.safetensors` file to write, atomically.
        backbone, backbone_kwargs, genotype, classes: as for `load_authors_detector`.
        overwrite: replace an existing file.

    Raises:
        FileNotFoundError: no such source or output folder. FileExistsError: the output exists.
        ValueError, UnknownNameError: as for `load_authors_detector`; or the output is no `.safetensors`.
    """
    output = new_safetensors(output, overwrite=overwrite)
    detector, assumed = load_authors_detector(
        source, backbone=backbone, backbone_kwargs=backbone_kwargs, genotype=genotype, classes=classes
    )
    save_detector(detector.model, output, detector.config, detector.classes, detector.category_ids)
    return ImportedDetector(len(detector.model.state_dict()), detector.config, detector.classes, assumed)


def _config(
    weights: StateDict, meta: CheckpointMeta, backbone: str, arguments: dict[str, Any], source: str
) -> DetectionConfig:
    recipe = DETECTION_RECIPES["faster-rcnn-r101" if "101" in backbone else "faster-rcnn-r50"]
    fields: dict[str, Any] = {
        "pyramid_width": len(weights["backbone.fpn.inner_blocks.0.0.weight"]),
        "box_head_width": len(weights["roi_heads.box_head.fc6.weight"]),
    }
    layers = sum(key.startswith("roi_heads.mask_head.") and key.endswith(".weight") for key in weights)
    if layers:
        fields |= {
            "detector": "mask_rcnn",
            "mask_head_widths": tuple(len(weights[f"roi_heads.mask_head.{n}.0.weight"]) for n in range(layers)),
            "mask_predictor_width": weights["roi_heads.mask_predictor.conv5_mask.weight"].shape[1],
        }
    fields |= {"backbone": backbone, "backbone_kwargs": arguments, "init_from": None, "conventions": "mmdetection"}
    fields |= meta.fields
    try:
        return recipe.override(**fields)
    except ValueError as error:
        raise ValueError(f"{source} cannot be made here: {error}") from None


def _resnet(weights: Mapping[str, Tensor], source: str) -> str:
    """The name of the ResNet whose blocks the weights have."""
    places = [key.removeprefix(_BODY).split(".") for key in weights if key.startswith(f"{_BODY}layer")]
    blocks = [len({place[1] for place in places if place[0] == f"layer{stage}"}) for stage in range(1, 5)]
    found = _RESNETS.get((tuple(blocks), any(place[2] == "conv3" for place in places)))
    if found is None:
        listed = ", ".join(map(str, blocks))
        raise ValueError(
            f"{source} is of no known ResNet ({listed} blocks): say by backbone (--backbone) of which model"
        )
    return f"sase_{found}" if any(place[2] == "se" for place in places) else found


def _names(
    weights: StateDict, meta: CheckpointMeta, given: Sequence[str] | None, source: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the classes, and what was assumed about them."""
    count = len(weights["roi_heads.box_predictor.cls_score.weight"]) - 1
    names = tuple(given) if given is not None else meta.classes
    if names is None and count == len(_COCO):
        return tuple(_COCO), ("the classes: COCO's",)
    if names is None:
        raise ValueError(f"{source} does not name its {count} classes: say them by classes (--classes), in their order")
    if len(names) != count:
        raise ValueError(f"{source} tells {count} classes apart, got names of {len(names)}")
    return names, ()
