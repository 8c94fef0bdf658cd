"""`export_onnx`: a detector as an ONNX file that takes images of any size.

By torch's exporter that is based on TorchScript, `torch.onnx.export(dynamo=False)`. The newer one fails on
torchvision's detectors inside `torch.export`: see torchvision's issues 9306 and 9462.
"""

import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from sase_attn.detection.evaluation.detections import evaluating
from sase_attn.detection.saved import LoadedDetector
from sase_attn.files import write_atomically

_OPSET = 17
_TRACED = (3, 96, 128)  # the size that the network is traced at; the file takes any
_AXES: dict[str, tuple[str, ...]] = {
    "boxes": ("objects",),
    "labels": ("objects",),
    "scores": ("objects",),
    "masks": ("objects", "height", "width"),
}


def export_onnx(detector: LoadedDetector, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Write a detector as ONNX, atomically, and return the names of the file's outputs.

    The input `image` is (3, height, width) of floats from 0 to 1, of any size: the file resizes and normalises it. The
    outputs are `boxes` (objects, 4) as corners x, y, x, y in the image's pixels, `labels` from 1, `scores`, and of a
    Mask R-CNN `masks` (objects, height, width) of probabilities. The metadata `classes` and `category_ids` are JSON
    lists by label − 1.

    Args:
        detector: of `load_detector`. Its network is on the CPU while it is traced.
        path: of the `.onnx` file.

    Raises:
        ImportError: the extra `export` is missing. OSError: the file cannot be written.
        ValueError: the path is no `.onnx`, or its folder does not exist.
    """
    try:
        import onnx
    except ImportError:
        raise ImportError('exporting a detector needs onnx: pip install "sase-attn[export]"') from None
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"the output must be named *.onnx, got {path.name}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {path.parent}")
    names = tuple(name for name in _AXES if name != "masks" or detector.config.has_masks)
    model, device = detector.model, next(detector.model.parameters()).device
    with (
        evaluating(model),
        torch.no_grad(),
        warnings.catch_warnings(action="ignore"),  # of what tracing fixes
        tempfile.TemporaryDirectory() as folder,
    ):
        file = Path(folder) / "detector.onnx"
        try:
            torch.onnx.export(
                _OneImage(model.cpu()).eval(),
                (torch.rand(_TRACED, generator=torch.Generator().manual_seed(0)),),
                file,
                input_names=["image"],
                output_names=list(names),
                dynamic_axes={
                    "image": {1: "height", 2: "width"},
                    **{name: dict(enumerate(_AXES[name])) for name in names},
                },
                opset_version=_OPSET,
                dynamo=False,
            )
        finally:
            model.to(device)
        proto = onnx.load(file)
    record: Mapping[str, Any] = {"classes": detector.classes, "category_ids": detector.category_ids}
    onnx.helper.set_model_props(proto, {name: json.dumps(value) for name, value in record.items()})
    write_atomically(path, proto.SerializeToString())
    return names


class _OneImage(nn.Module):
    """What a detector finds in one image, as a tuple."""

    def __init__(self, model: FasterRCNN) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        found = self.model([image])[0]
        return tuple(found[name].flatten(0, 1) if name == "masks" else found[name] for name in _AXES if name in found)
