"""`sase-attn detect evaluate`: on the images of the training and on others, as text, JSON, results and pictures."""

import json

import numpy as np
import pytest
from detection_data import draw_coco, edit
from other_coco import by_pycocotools
from PIL import Image
from untrained_detector import config_of, untrained_detector

from sase_attn.commands.main import main
from sase_attn.detection.evaluation.metrics import evaluate_detector
from sase_attn.detection.saved import save_detector

pytest.importorskip("faster_coco_eval")
pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES, IDS = ("square", "triangle"), (3, 7)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data, and a detector whose file says that it was trained on them."""
    folder = draw_coco(tmp_path_factory.mktemp("trained"), val=3)
    config = config_of(masks=True).override(data=str(folder))
    save_detector(untrained_detector(masks=True), folder / "best.safetensors", config, CLASSES, IDS)
    return folder


@pytest.fixture
def evaluated(capsys):
    def run(*arguments):
        code = main(["detect", "evaluate", *map(str, arguments), "--device", "cpu"])
        return code, *capsys.readouterr()

    return run


def test_json_results_and_pictures(trained, evaluated, tmp_path):
    files = ["--results", tmp_path / "r.json", "--confusion", tmp_path / "c.png", "--sheet", tmp_path / "s.jpg"]
    code, out, err = evaluated(trained, "--json", "--score", 0, *files)
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert values["images"] == 3 and values["source"] == f"{trained}/best.safetensors"
    assert values["annotations"] == str(trained / "val.json")
    rows = json.loads((tmp_path / "r.json").read_text())
    truth = json.loads((trained / "val.json").read_text())
    assert len(rows) == 36 and {row["image_id"] for row in rows} == {image["id"] for image in truth["images"]}
    for kind in ("boxes", "masks"):
        twelve, _ = by_pycocotools(truth, rows, kind)
        assert [values[kind][name] for name in list(values[kind])[:12]] == pytest.approx(twelve, abs=1e-9)
    confusion = values["confusion"]
    assert sum(sum(confusion[name].values()) for name in CLASSES) == len(truth["annotations"])
    assert sum(value for row in confusion.values() for name, value in row.items() if name != "not found") == 36
    for name in ("c.png", "s.jpg"):
        with Image.open(tmp_path / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 5


def test_the_table(trained, evaluated):
    code, out, err = evaluated(trained / "best.safetensors", "--per-class")
    lines = out.splitlines()
    assert (code, err) == (0, "") and lines[0].startswith(
        f"{trained}/best.safetensors on {trained}/val.json: boxes AP "
    )
    assert lines[0].endswith(", 3 images") and [line.split()[0] for line in lines[1:8]] == [
        "AP", "boxes", "square", "triangle", "masks", "square", "triangle"
    ]  # fmt: skip
    assert lines[8] == "at a score of 0.5 or more:" and len(lines) == 15
    code, again, _ = evaluated(trained)
    assert code == 0 and again.splitlines()[0] == lines[0] and len(again.splitlines()) == 4


def test_classes_of_other_data_are_matched_by_name(trained, evaluated, tmp_path):
    """One has another id, one is not there, and one the detector does not know."""
    draw_coco(tmp_path / "other", train=1, val=3)

    def rename(value):
        names = {"square": 50, "unknown": 51}
        value["categories"] = [{"id": id, "name": name} for name, id in names.items()]
        for row in value["annotations"]:
            row["category_id"] = 50 if row["category_id"] == 3 else 51

    edit(tmp_path / "other" / "val.json", rename)
    named = ["--results", tmp_path / "r.json", "--data", tmp_path / "other"]
    code, out, err = evaluated(trained, *named)
    assert (code, err) == (0, "")
    assert out.startswith(
        f"classes matched by name: the annotations have 1 of the 2 that {trained}/best.safetensors knows\n"
        "classes that it does not know, in the means with an AP of 0: unknown\n"
    )
    rows = json.loads((tmp_path / "r.json").read_text())
    assert 0 < len(rows) < 36 and {row["category_id"] for row in rows} == {50}
    code, out, _ = evaluated(trained, "--json", "--data", tmp_path / "other")
    assert json.loads(out)["boxes"]["per_class"]["unknown"]["ap"] == 0.0
    assert json.loads(out)["unknown_classes"] == ["unknown"]
    edit(tmp_path / "other" / "val.json", lambda value: value["categories"][0].update(name="cube"))
    code, out, err = evaluated(trained, "--data", tmp_path / "other")
    assert code == 1 and "the detector knows none of the classes of the annotations: wanted some of square, " in err


def test_the_place_of_the_data_is_given_or_recorded_and_never_mixed(trained, evaluated, tmp_path):
    annotations = tmp_path / "mine.json"
    annotations.write_text((trained / "train.json").read_text())
    code, out, err = evaluated(trained, "--val-annotations", annotations, "--val-images", trained / "train", "--json")
    assert (code, err) == (0, "") and json.loads(out)["images"] == 6
    code, out, err = evaluated(trained, "--data", tmp_path / "nowhere")
    assert code == 1 and out == "" and "no such folder" in err and str(tmp_path / "nowhere") in err


def test_missing_coco_tools_are_said_before_the_work(trained, evaluated, monkeypatch):
    monkeypatch.setattr("sase_attn.detection.evaluation.coco_numbers.find_spec", lambda name: None)
    monkeypatch.setattr("sase_attn.detection.evaluation.metrics.detect", lambda *arguments, **options: 1 / 0)
    code, out, err = evaluated(trained)
    assert code == 1 and out == "" and 'needs faster-coco-eval: pip install "sase-attn[detection]"' in err
    with pytest.raises(ImportError, match="faster-coco-eval"):
        evaluate_detector(untrained_detector(masks=True), [([], [{"image_id": 1}])], None, masks=True)


def test_what_cannot_be_is_said_before_the_work(trained, evaluated, tmp_path):
    for flags, wanted in (
        (["--confusion", tmp_path / "a.jpg"], "a picture is a .png, .svg, .pdf file"),
        (["--sheet", tmp_path / "a.svg"], "a picture of detections is a .png, .jpg, .jpeg file"),
        (["--results", tmp_path / "none" / "r.json"], "none' to write in"),
        (["--results", tmp_path], "wanted a file to write results to, got the folder"),
        (["--results", tmp_path / "r.csv"], "results are a .json file"),
        (["--amp", "float16"], 'amp "float16" needs CUDA'),
    ):
        code, out, err = evaluated(trained, *flags)
        assert code == 1 and out == "" and wanted in err and err.count("\n") == 1
    code, _, err = evaluated(trained, "--score", "2")
    assert code == 2 and "argument --score: expected a number from 0 to 1, got 2" in err
    code, _, err = evaluated(tmp_path, "--json")
    assert code == 1 and "holds no best.safetensors" in err
