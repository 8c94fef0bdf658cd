"""A detector's file is all that is needed to have it back; other files and damaged ones are told apart."""

import json

import pytest
import torch
from safetensors.torch import save_file
from tiny_detector import TINY_BACKBONE, images_and_targets, tiny_config

from sase_attn.detection import load_detector, save_detector
from sase_attn.detection.network import create_detector
from sase_attn.detection.saved import detector_file, read_detector_record
from sase_attn.errors import UnknownNameError
from sase_attn.training.data.identity import DataIdentity
from sase_attn.weights import read_metadata
from sase_attn.weights.genotypes import record_of

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES = ("square", "triangle")


@pytest.mark.parametrize("detector", ["faster_rcnn", "mask_rcnn"])
def test_it_comes_back_to_the_bit(detector, tmp_path):
    """With the normalisation that its weights had, the gain of its attention, and no trace in torch's generator."""
    config = tiny_config(detector=detector, score_threshold=0.0, backbone_kwargs={**TINY_BACKBONE, "gain": 1.5})
    model = create_detector(config, 2).eval()
    model.transform.image_mean, model.transform.image_std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    data = DataIdentity(CLASSES, 6, 4, "a", "b")
    save_detector(model, tmp_path / "x.safetensors", config, CLASSES, (3, 7), data=data)
    before = torch.get_rng_state()
    loaded = load_detector(tmp_path / "x.safetensors")
    assert torch.equal(before, torch.get_rng_state())
    assert (loaded.config, loaded.classes, loaded.category_ids) == (config, CLASSES, (3, 7))
    assert not loaded.model.training and record_of(loaded.model) == record_of(model) != {}
    assert read_detector_record(tmp_path / "x.safetensors").data == data
    images, _ = images_and_targets()
    with torch.no_grad():
        ours, theirs = loaded.model(images), model(images)
    assert sum(len(each["boxes"]) for each in ours) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def test_weights_of_a_run(tmp_path):
    config = tiny_config()
    model = create_detector(config, 2)
    for name in ("model", "best"):
        save_detector(model, tmp_path / f"{name}.safetensors", config, CLASSES)
    assert detector_file(tmp_path).name == "best.safetensors"
    assert detector_file(tmp_path, "last").name == "model.safetensors"
    assert load_detector(tmp_path).category_ids == (1, 2)
    with pytest.raises(UnknownNameError, match="bets"):
        load_detector(tmp_path, weights="bets")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no model.safetensors: wanted the folder of a run"):
        load_detector(tmp_path, weights="last")
    with pytest.raises(FileNotFoundError, match="no such folder of a run or file of a detector"):
        load_detector(tmp_path / "nowhere")


def test_classes_are_as_many_as_the_detector_tells_apart(tmp_path):
    config = tiny_config()
    model = create_detector(config, 2)
    for classes, ids in ((("a",), None), (CLASSES, (1,))):
        with pytest.raises(ValueError, match=r"^wanted a name and an id for each of 2 classes, got "):
            save_detector(model, tmp_path / "x.safetensors", config, classes, ids)
    assert not list(tmp_path.iterdir())


def test_other_files_are_told_apart(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="is not of a detector: wanted a file that `sase-attn detect train`"):
        load_detector(path)
    config = tiny_config()
    save_detector(create_detector(config, 2), path, config, CLASSES)
    text = read_metadata(path)["sase_attn.detector"]
    for damaged, message in (
        ("{", "x.safetensors: "),
        (json.dumps(json.loads(text) | {"classes": []}), "its record of the detector is damaged"),
        (json.dumps(json.loads(text) | {"mean": [0.5]}), "its record of the detector is damaged"),
        (json.dumps(json.loads(text) | {"classes": ["a"], "category_ids": [1]}), "has shape"),
        (json.dumps(json.loads(text) | {"config": {"lr": -1}}), "x.safetensors: detection recipe field lr"),
    ):
        save_file(create_detector(config, 2).state_dict(), path, metadata={"sase_attn.detector": damaged})
        with pytest.raises(ValueError, match=message):
            load_detector(path)
