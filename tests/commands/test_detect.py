"""`sase-attn detect`: train, stop, go on, evaluate and predict, as one types it."""

import json

import pytest
from detection_data import draw_coco
from tiny_detector import tiny_config

from sase_attn.commands.main import main

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data, a recipe, and the run of a detector of masks."""
    folder = tmp_path_factory.mktemp("detect")
    draw_coco(folder / "data")
    tiny = tiny_config(detector="mask_rcnn", epochs=1, warmup_steps=1, score_threshold=0.0)
    (folder / "tiny.json").write_text(tiny.to_json())
    train = ["detect", "train", "--recipe", str(folder / "tiny.json"), "--data", str(folder / "data")]
    assert main([*train, "--output", str(folder / "run"), "--device", "cpu"]) == 0
    return folder


def test_train_says_what_it_does_and_where_it_is(trained, tmp_path, capsys):
    """In its own folder, by the recipe's name; a run that has finished says its numbers again."""
    run = str(trained / "run")
    assert main(["detect", "train", "--output", run, "--resume", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    result = json.loads((trained / "run" / "result.json").read_text())
    assert f"recipe of {run}:" in out and "4 validation images, the last epoch's weights:" in out
    assert "square" in out and "triangle" in out and f"best epoch 1: mask AP {result['best_ap']:.3f}" in out
    assert f"load_detector({json.dumps(run)}).model" in out
    assert {path.name for path in (trained / "run").iterdir()} >= {
        "model.safetensors", "best.safetensors", "result.json", "curves.png", "log.jsonl", "checkpoint.pt",
        "detection.json",
    }  # fmt: skip
    assert main(["detect", "train", "--recipe", "mask-rcnn-r101", "--lr", "0.1", "--show"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["detector"], shown["backbone"], shown["lr"]) == ("mask_rcnn", "sase_resnet101", 0.1)
    assert shown["init_from"] == "pretrained"  # what its schedule freezes must have seen images


def test_its_folder_is_what_the_other_parts_take(trained, tmp_path, capsys):
    assert main(["detect", "evaluate", str(trained / "run"), "--weights", "last", "--json", "--device", "cpu"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    result = json.loads((trained / "run" / "result.json").read_text())
    assert numbers["images"] == 4
    for kind in ("boxes", "masks"):
        assert numbers[kind]["ap"] == result["metrics"][kind]["ap"]
    words = [str(trained / "run"), str(trained / "data" / "val"), "--output", str(tmp_path / "seen"), "--device", "cpu"]
    assert main(["detect", "predict", *words]) == 0
    found = json.loads((tmp_path / "seen" / "results.json").read_text())
    assert found and {row["category_id"] for row in found} <= {3, 7} and "segmentation" in found[0]


def test_resuming_with_another_rate_is_refused(trained, capsys):
    run = str(trained / "run")
    assert main(["detect", "train", "--output", run, "--resume", "--lr", "0.5", "--device", "cpu"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("sase-attn: error: cannot resume with another detection recipe: lr (saved 0.01, now 0.5)")
