"""`sase-attn predict`: what a network sees in images, as a table, CSV, JSON and a picture."""

import csv
import io
import json
from pathlib import Path

import labelled
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform

from sase_attn.commands.main import main
from sase_attn.training.data import read_image

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", ["evaluate", "predict"])
def test_the_help_names_the_default_size(name, capsys):
    """It is not that of a training."""
    assert main([name, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "(default: the network's own" in text and "the data's own" not in text


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return labelled.saved_network(tmp_path_factory.mktemp("network") / "model", size=16, crop_pct=0.8)


@pytest.fixture
def predicted(capsys):
    def run(*arguments):
        code = main(["predict", *map(str, arguments), "--device", "cpu"])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def photos(tmp_path):
    """Of several sizes, one with alpha, two broken, below a folder."""
    folder = labelled.draw_images(tmp_path / "photos", count=3, size=(40, 31))
    labelled.draw_images(folder / "deep" / "er", count=2, size=(20, 20), seed=4)
    Image.new("RGBA", (25, 30), (200, 30, 30, 120)).save(folder / "seen_through.png")
    (folder / "broken.jpg").write_text("no image")
    (folder / "deep" / "cut.png").write_bytes((folder / "0.png").read_bytes()[:60])
    return folder


def test_json_holds_what_the_network_says_and_what_is_broken(network, photos, predicted):
    with pytest.warns(UserWarning, match="skipped: 2 of 8 images cannot be read: ") as warned:
        code, out, err = predicted(network, photos, "--json", "--top", 2, "--batch-size", 2)
    assert code == 0 and str(photos / "broken.jpg") in str(warned[0].message), err
    values = json.loads(out)
    assert [row["image"] for row in values["broken"]] == [str(photos / name) for name in ("broken.jpg", "deep/cut.png")]
    assert all(row["reason"] for row in values["broken"])
    model = timm.create_model(f"local-dir:{network}", pretrained=True).eval()
    transform = create_transform(16, mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=0.8)
    assert len(values["images"]) == 6
    for row in values["images"]:
        with torch.no_grad():
            scores = model(transform(read_image(Path(row["image"])))[None]).softmax(1)[0]
        best = scores.topk(2)
        assert [each["class"] for each in row["predictions"]] == [labelled.CLASSES[i] for i in best.indices]
        assert [each["probability"] for each in row["predictions"]] == pytest.approx(best.values.tolist(), rel=1e-4)
        assert row["folder_class"] is None


def test_csv_has_a_line_an_image(network, photos, predicted):
    with pytest.warns(UserWarning, match="skipped: 2 of 8"):
        code, out, _ = predicted(network, photos, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0 and len(rows) == 8
    assert list(rows[0]) == ["image", "folder_class"] + [
        f"{kind}_{place}" for place in (1, 2, 3) for kind in ("class", "probability")
    ] + ["broken"]
    for row in rows[:6]:
        assert sum(float(row[f"probability_{place}"]) for place in (1, 2, 3)) == pytest.approx(1, abs=1e-4)
    assert all(row["broken"] and not row["class_1"] for row in rows[6:])


def test_the_table_counts_what_folders_say_and_the_picture_is_drawn(network, predicted, tmp_path):
    folder = labelled.draw_classes(tmp_path / "animals")
    values = json.loads(predicted(network, folder, "--json")[1])
    right = sum(row["predictions"][0]["class"] == row["folder_class"] for row in values["images"])
    assert sum(row["count"] for row in values["per_class"].values()) == 12
    assert sum(values["confusion"][name].get(name, 0) for name in labelled.CLASSES) == right
    code, out, err = predicted(network, folder, "--per-class", "--confusion", tmp_path / "taken.png")
    assert code == 0 and out.splitlines()[13].startswith("class") and len(out.splitlines()) == 18
    assert (tmp_path / "taken.png").stat().st_size > 1000
    code, out, err = predicted(network, folder / "ant", folder / "bee", folder / "cat", "--grid", tmp_path / "grid.png")
    assert code == 0 and err == ""
    lines = out.splitlines()
    assert len(lines) == 13 and lines[0].startswith(str(folder / "ant" / "0.png"))
    assert lines[-1] == f"{right} of 12 as their folders say: {100 * right / 12:.1f} %"
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.width > 500
    code, out, _ = predicted(network, folder / "bee" / "1.png")
    assert code == 0 and out.startswith(f"{folder / 'bee' / '1.png'}  ")


def test_a_weights_file_says_what_it_does_not_know(network, photos, predicted, tmp_path):
    plain = tmp_path / "plain.safetensors"
    model = timm.create_model(f"local-dir:{network}", pretrained=True)
    save_file(model.state_dict(), plain)
    named = ("--model", "resnet20_cifar", "--model-kwargs", "layers=[1, 1, 1]")
    code, out, err = predicted(plain, photos / "0.png", *named)
    assert code == 1 and out == "" and "does not say at which size it sees images; give --size" in err
    with pytest.warns(UserWarning) as warned:
        code, out, err = predicted(plain, photos / "0.png", *named, "--size", 16)
    assert code == 0 and out.split()[1] in "012"
    first, second = (str(warning.message) for warning in warned)
    assert "ImageNet's statistics are taken" in first and "does not name its 3 classes: numbers are shown" in second
    numbered = labelled.draw_images(tmp_path / "numbered" / "1", count=1).parent
    with pytest.warns(UserWarning, match="numbers are shown"):
        code, out, err = predicted(plain, numbered, *named, "--size", 16, "--json")
    values = json.loads(out)
    assert code == 0 and [row["folder_class"] for row in values["images"]] == [None] and "per_class" not in values
    for flags in (["--per-class"], ["--confusion", tmp_path / "taken.png"]):
        with pytest.warns(UserWarning, match="numbers are shown"):
            code, out, err = predicted(plain, numbered, *named, "--size", 16, *flags)
        assert code == 1 and out == "" and "want images in folders named after classes, got none" in err


def test_the_nearest_folder_that_is_named_after_a_class_counts(network, predicted, tmp_path):
    for place in ("ant/field/red", "ant/bee/pair", "other"):
        labelled.draw_images(tmp_path / "cat" / place, count=1)
    expected = {"ant/bee/pair": "bee", "ant/field/red": "ant"}

    def seen(*images):
        rows = json.loads(predicted(network, *images, "--json")[1])["images"]
        return {str(Path(row["image"]).parent.relative_to(tmp_path / "cat")): row["folder_class"] for row in rows}

    assert seen(tmp_path / "cat") == {**expected, "other": "cat"}
    assert seen(tmp_path / "cat" / "other") == {"other": None}
    assert seen(tmp_path / "cat" / "ant") == expected
    assert seen(tmp_path / "cat" / "ant" / "bee" / "pair" / "0.png") == {"ant/bee/pair": None}


def test_what_cannot_be_predicted_is_one_line(network, photos, predicted, tmp_path):
    (tmp_path / "empty").mkdir()
    for images, said in (
        ([photos / "broken.jpg"], "none of 1 images can be read: "),
        ([tmp_path / "nowhere"], "no such image or folder"),
        ([tmp_path / "empty"], "no images in"),
    ):
        code, out, err = predicted(network, *images)
        assert code == 1 and out == "" and said in err and "on_broken" not in err and err.count("\n") == 1
    with pytest.warns(UserWarning, match="cannot be read"):
        code, out, err = predicted(network, photos, "--per-class")
    assert code == 1 and out == "" and "want images in folders named after classes, got none" in err
    code, _, err = predicted(network, photos, "--grid", tmp_path / "grid.txt")
    assert code == 1 and "a picture is a .png, .svg, .pdf file" in err
