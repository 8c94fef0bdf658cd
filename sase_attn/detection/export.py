"""`export_onnx`: write a detector as an ONNX file that accepts images of any size.

It uses torch's exporter based on TorchScript, `torch.onnx.export(dynamo=False)`. The newer one fails on torchvision's
detectors inside `torch.export`: see torchvision's issues 9306 and 9462.
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
_TRACED = (3, 96, 128)  # the size at which the network is traced; the file accepts any
_AXES: dict[str, tuple[str, ...]] = {
    "boxes": ("objects",),
    "labels": ("objects",),
    "scores": ("objects",),
    "masks": ("objects", "height", "width"),
}


def export_onnx(detector: LoadedDetector, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Write a detector as ONNX, atomically, and return the names of the file's outputs.

    The input `image` is (3, height, width) of floats from 0 to 1, of any size: the file resizes and normalises it. The
    outputs are `boxes` (objects, 4) as corners x, y, x, y in the image's pixels, `labels` from 1, `scores`, and for a
    Mask R-CNN `masks` (objects, height, width) of probabilities. The metadata `classes` and `category_ids` are JSON
    lists indexed by label − 1.

    Args:
        detector: a detector from `load_detector`. Its network is moved to the CPU while it is traced.
        path: the `.onnx` file to write.

    Raises:
        ImportError: the extra `export` is missing. OSError: the file cannot be written.
        ValueError: the path is no `.onnx`. FileNotFoundError: no such folder.
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
        warnings.catch_warnings(action="ignore"),  # warnings about values that tracing makes constant
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
    """A detector for a single image, which returns its detections as a tuple."""

    def __init__(self, model: FasterRCNN) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        found = self.model([image])[0]
        return tuple(found[name].flatten(0, 1) if name == "masks" else found[name] for name in _AXES if name in found)
