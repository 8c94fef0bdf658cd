"""A checkpoint of mmdetection becomes a file that this package loads; what it does not say is not guessed silently."""

import sys
import types
from dataclasses import replace

import mmdetection_weights
import pytest
import timm
import torch
from networks import moved
from tiny_detector import TINY_BACKBONE

from sase_attn import genotypes
from sase_attn.detection.authors import import_detector, load_authors_detector
from sase_attn.detection.authors.load import _resnet
from sase_attn.detection.saved import load_detector

KWARGS = dict(TINY_BACKBONE)
SIZES = {"channels": (32, 32, 64, 64), "width": 4, "hidden": 6, "classes": 2}
CONFIG = "test_pipeline = [dict(type='Resize', scale=(96, 64))]"


def checkpoint(model="sase_resnet50", names=("cell", "dust"), config=CONFIG, genotype=genotypes["sase"], **sizes):
    arguments = {"genotype": str(genotype)} if "sase" in model else {}
    body = moved(timm.create_model(model, **KWARGS, **arguments, num_classes=0))
    weights = mmdetection_weights.heads(**(SIZES | sizes)) | mmdetection_weights.backbone(body, genotype)
    return {"meta": {"cfg": config, "dataset_meta": {"classes": names}}, "state_dict": weights}, body


class Calls:
    """Its pickle runs a line of Python where it is read by `pickle`."""

    def __init__(self, line):
        self.line = line

    def __reduce__(self):
        return exec, (self.line,)


def saved(path, content):
    torch.save(content, path)
    return path


def test_import_and_load(tmp_path):
    content, body = checkpoint(masks=(3, 5))
    source, output = saved(tmp_path / "a.pth", content), tmp_path / "a.safetensors"
    detector, assumed = load_authors_detector(source, backbone="sase_resnet50", backbone_kwargs=KWARGS)
    assert assumed == () and detector.classes == ("cell", "dust") and detector.category_ids == (1, 2)
    config = detector.config
    assert config.has_masks and config.conventions == "mmdetection"
    assert (config.pyramid_width, config.box_head_width, config.mask_head_widths) == (4, 6, (3, 5))
    assert (config.mask_predictor_width, config.min_size, config.max_size) == (5, (64,), 96)
    state = detector.model.state_dict()
    for key, value in body.state_dict().items():
        assert torch.equal(state[f"backbone.body.{key}"], value)
    done = import_detector(source, output, backbone="sase_resnet50", backbone_kwargs=KWARGS)
    assert (done.tensors, done.config, done.classes) == (len(state), config, detector.classes)
    again = load_detector(output)
    image = torch.rand(3, 50, 70)
    with torch.no_grad():
        for one, other in zip(again.model([image])[0].values(), detector.model([image])[0].values(), strict=True):
            assert torch.equal(one, other)
    with pytest.raises(FileExistsError):
        import_detector(source, output)


def test_what_the_file_does_not_say(tmp_path):
    content, _ = checkpoint("resnet50")
    source = saved(tmp_path / "a.pth", {"state_dict": content["state_dict"]})
    arguments = {"backbone": "resnet50", "backbone_kwargs": KWARGS}
    with pytest.raises(ValueError, match="does not name its 2 classes: say them by classes"):
        load_authors_detector(source, **arguments)
    detector, assumed = load_authors_detector(source, **arguments, classes=["a", "b"])
    assert assumed == ("the configuration: that of the authors, mmdetection's for a ResNet with FPN",)
    assert detector.config.min_size == (800,) and not detector.config.has_masks
    with pytest.raises(ValueError, match="tells 2 classes apart, got names of 3"):
        load_authors_detector(source, **arguments, classes=["a", "b", "c"])
    with pytest.raises(ValueError, match="has no attention of the authors: leave the genotype out"):
        load_authors_detector(source, **arguments, classes=["a", "b"], genotype=genotypes["sase"])
    with pytest.raises(ValueError, match=r"is of no known ResNet \(1, 1, 1, 1 blocks\): say by backbone"):
        load_authors_detector(source, classes=["a", "b"])
    with pytest.raises(ValueError, match="it holds weights of the network without attention"):
        load_authors_detector(source, backbone="sase_resnet50", backbone_kwargs=KWARGS, classes=["a", "b"])


def test_values_that_no_detector_has_are_named_with_the_file(tmp_path):
    content, _ = checkpoint("resnet50", config="model = dict(test_cfg=dict(rcnn=dict(score_thr=3)))")
    source = saved(tmp_path / "a.pth", content)
    with pytest.raises(
        ValueError, match="a.pth cannot be made here: detection recipe field score_threshold: wanted 0 to 1, got 3"
    ):
        load_authors_detector(source, backbone="resnet50", backbone_kwargs=KWARGS)


def test_80_classes_are_those_of_coco(tmp_path):
    content, _ = checkpoint("resnet50", names=None, classes=80)
    detector, assumed = load_authors_detector(
        saved(tmp_path / "a.pth", content), backbone="resnet50", backbone_kwargs=KWARGS
    )
    assert assumed == ("the classes: COCO's",)
    by_id = dict(zip(detector.category_ids, detector.classes, strict=True))
    assert (len(by_id), by_id[1], by_id[13], by_id[90]) == (80, "person", "stop sign", "toothbrush")


def test_another_genotype(tmp_path):
    genotype = replace(genotypes["sase"], channel_gate="conv1d_k3", spatial_squeeze_gated="gap")
    source = saved(tmp_path / "a.pth", checkpoint(genotype=genotype)[0])
    arguments = {"backbone": "sase_resnet50", "backbone_kwargs": KWARGS}
    with pytest.raises(ValueError, match="its weights are of channel_gate conv1d_k3.*say by genotype"):
        load_authors_detector(source, **arguments)
    detector, _ = load_authors_detector(source, **arguments, genotype=genotype)
    assert detector.config.backbone_kwargs == {**KWARGS, "genotype": str(genotype)}


@pytest.mark.parametrize(
    "stages, bottleneck, name", [((3, 4, 6, 3), True, "sase_resnet50"), ((2, 2, 2, 2), False, "resnet18")]
)
def test_the_backbone_is_recognised(stages, bottleneck, name):
    places = [f"backbone.body.layer{stage}.{block}" for stage, count in enumerate(stages, 1) for block in range(count)]
    ends = ["conv1.weight", *["conv3.weight"] * bottleneck, *["se.mix.weight"] * name.startswith("sase")]
    assert _resnet({f"{place}.{end}": torch.zeros(1) for place in places for end in ends}, "a.pth") == name


def test_logs_of_mmengine_are_left_out(tmp_path, monkeypatch):
    module = types.ModuleType("mmengine_log")
    module.Buffer = type("Buffer", (), {"__module__": "mmengine_log"})
    monkeypatch.setitem(sys.modules, "mmengine_log", module)
    content, _ = checkpoint("resnet50")
    log = module.Buffer()
    log.history = [1.0]
    calls = Calls(f"open({str(tmp_path / 'called')!r}, 'w')")
    source = saved(tmp_path / "a.pth", content | {"message_hub": {"log": log, "calls": calls}})
    monkeypatch.delitem(sys.modules, "mmengine_log")
    detector, _ = load_authors_detector(source, backbone="resnet50", backbone_kwargs=KWARGS)
    assert detector.classes == ("cell", "dust") and not (tmp_path / "called").exists()
