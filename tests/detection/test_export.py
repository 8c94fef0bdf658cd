"""Detectors in ONNX Runtime, at other sizes than they were traced at."""

import itertools
import json

import pytest
import torch
from networks import moved
from tiny_detector import tiny_config
from torch import nn
from torch.nn import functional as F

from sase_attn.commands.main import main
from sase_attn.detection import create_detector
from sase_attn.detection.export import export_onnx
from sase_attn.detection.network.transform import sides_for_network
from sase_attn.detection.saved import LoadedDetector, save_detector

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
UNEVEN = ((40, 147), (123, 133))  # in float32 a side would be one pixel less or more
EMPTY = onnx.ModelProto().SerializeToString()


def detector(**fields) -> LoadedDetector:
    """One whose heads see differences between regions."""
    config = tiny_config(score_threshold=0.05, **fields)
    model = create_detector(config, 3, echo=lambda line: None)
    moved(model.backbone.body)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for part in (model.rpn, model.roi_heads):
            for parameter in part.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise * (0.05 if parameter.ndim > 1 else 0.1))
    return LoadedDetector(model.eval(), config, ("red", "white", "platelet"), (1, 4, 9))


@pytest.mark.parametrize(
    "fields",
    [
        {"detector": "faster_rcnn", "backbone": "resnet18"},
        {"detector": "mask_rcnn", "backbone": "sase_resnet18"},
        {"detector": "mask_rcnn", "backbone": "seresnet18", "conventions": "mmdetection"},
    ],
    ids=lambda fields: "-".join(fields.values()),
)
def test_two_sizes(fields, tmp_path):
    loaded = detector(**fields)
    loaded.model.train()
    names = export_onnx(loaded, tmp_path / "a.onnx")
    assert loaded.model.training and loaded.model.rpn.training
    loaded.model.eval()
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    assert tuple(output.name for output in session.get_outputs()) == names
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == ["red", "white", "platelet"]
    assert json.loads(metadata["category_ids"]) == [1, 4, 9]
    for size in ((64, 90), (151, 77), *UNEVEN):
        coarse = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(1))  # noise has no digits to resize by
        image = F.interpolate(coarse, size=size, mode="bilinear")[0]
        with torch.no_grad():
            (wanted,) = loaded.model([image])
        found = dict(zip(names, map(torch.from_numpy, session.run(None, {"image": image.numpy()})), strict=True))
        assert len(wanted["scores"]) > 5
        assert torch.equal(found["labels"], wanted["labels"])
        assert (found["boxes"] - wanted["boxes"]).abs().max() < 1e-4
        assert (found["scores"] - wanted["scores"]).abs().max() < 1e-5
        if "masks" in names:
            assert (found["masks"] - wanted["masks"][:, 0]).abs().max() < 1e-3


class Sides(nn.Module):
    """The sides that a network sees of an image."""

    def __init__(self, rounded: bool) -> None:
        super().__init__()
        self.rounded = rounded

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.as_tensor(side) for side in sides_for_network(image, 64, 96, rounded=self.rounded)])


@pytest.mark.parametrize("rounded", [False, True])
def test_sides_of_every_size(rounded, tmp_path):
    """torchvision's own are those of `interpolate` with a float64 factor, whose product is cut off."""
    torch.onnx.export(
        Sides(rounded),
        (torch.rand(3, 96, 128),),
        tmp_path / "a.onnx",
        input_names=["image"],
        dynamic_axes={"image": {1: "height", 2: "width"}},
        opset_version=17,
        dynamo=False,
    )
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    image = torch.zeros(1, 320, 320)
    for height, width in itertools.product(range(33, 320, 7), repeat=2):
        part = image.expand(3, -1, -1)[:, :height, :width]
        wanted = Sides(rounded)(part)
        assert session.run(None, {"image": part.numpy()})[0].tolist() == wanted.tolist(), (height, width)
        if not rounded:
            factor = min(64 / min(height, width), 96 / max(height, width))
            seen = F.interpolate(image[None, :, :height, :width], scale_factor=factor, recompute_scale_factor=True)
            assert list(seen.shape[2:]) == wanted.tolist(), (height, width)


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.onnx, "export", lambda model, images, file, **options: file.write_bytes(EMPTY))
    loaded, source = detector(), tmp_path / "detector.safetensors"
    save_detector(loaded.model, source, *loaded[1:])
    command = ["detect", "export", str(source), "-o", str(tmp_path / "a.onnx")]
    assert main(command) == 0
    assert "boxes, labels, scores" in capsys.readouterr().out
    assert main(command) == 1
    assert "--force replaces it" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"must be named \*.onnx, got a.pt"):
        export_onnx(loaded, tmp_path / "a.pt")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        export_onnx(loaded, tmp_path / "none" / "a.onnx")
