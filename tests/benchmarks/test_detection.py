"""`benchmarks/detection.py`: a row a detector, once, and the tables."""

import sys
from types import SimpleNamespace

import pytest
from checkout import BENCHMARKS

sys.path.insert(0, str(BENCHMARKS))
import detection as study  # noqa: E402
import rows  # noqa: E402
import tables  # noqa: E402

from sase_attn.detection.evaluation.coco_numbers import ClassNumbers, CocoNumbers  # noqa: E402
from sase_attn.detection.evaluation.metrics import DetectionMetrics  # noqa: E402


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """The trainings that were asked for, none of them real."""
    done = []
    numbers = CocoNumbers(0.5, 0.9, 0.4, None, 0.5, 0.6, 0.1, 0.4, 0.6, None, 0.5, 0.7, ())
    place = {"machine": "m", "versions": {"torch": "t"}, "commit": "c"}

    def train(recipe, folder, *, resume, device):
        done.append((recipe.model_kwargs.get("attn"), recipe.start_as))
        return SimpleNamespace(top1=50.0)

    def train_detector(config, folder, *, resume, device):
        done.append((config.data.rpartition("/")[2], config.backbone_kwargs.get("attn"), config.init_from))
        one = [ClassNumbers("red", 4, 0.5, 0.75), ClassNumbers("white", 2, None, None)]
        boxes = CocoNumbers(**{**numbers.__dict__, "per_class": tuple(one)})
        metrics = DetectionMetrics(40, boxes, numbers if config.has_masks else None)
        known = {"metrics": metrics, "best_ap": 0.5, "parameters": 12_000_000, "seconds": 1.0, **place}
        return SimpleNamespace(config=dict(config.__dict__), **known)

    monkeypatch.setattr(rows, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(study, "train", train)
    monkeypatch.setattr(study, "train_detector", train_detector)
    return done


def test_a_row_a_detector_once_and_the_tables(trained, tmp_path, monkeypatch):
    words = ["--data", tmp_path, "--images", tmp_path / "images", "--runs", tmp_path / "runs"]
    monkeypatch.setattr(sys, "argv", ["detection.py", *map(str, words)])
    study.main()
    assert len(trained) == 12
    backbone = str(tmp_path / "runs" / "backbone-SASE")
    assert trained[-1] == ("nuclei", "sase", backbone) and trained[-2] == ("sase", {"model": "resnet18"})
    study.main()
    assert len(trained) == 12
    made = tables.table("detection", rows.read_rows("detection")).splitlines()
    assert made[0].startswith("| bccd, 40 images, 320 pixels | parameters | box AP | AP50 | AP75 | red, AP50 | white")
    assert made[2] == "| SASE | 12.00M | 0.500 | 0.900 | 0.400 | 0.750 | – |"
    assert "mask AP" in made[6] and made[-1].startswith("COCO's numbers of the last of 7 epochs, batch 2, one seed")
    assert not [path for path in rows.RESULTS.iterdir() if path.suffix == ".lock"]
