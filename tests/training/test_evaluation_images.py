"""`evaluate` on folders of every shape, class by class."""

import json

import labelled
import pytest
import timm
import torch
import warm
from timm.data import create_transform

from sase_attn.commands.main import main
from sase_attn.training.confusion import Confusion
from sase_attn.training.data import DataConfig, read_image
from sase_attn.training.data.evaluation_images import find_evaluation_images
from sase_attn.training.data.view import View
from sase_attn.training.evaluate import evaluate

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return labelled.saved_network(tmp_path_factory.mktemp("network") / "model")


@pytest.fixture
def evaluated(network, capsys):
    def run(*arguments):
        code = main(["evaluate", str(network), *map(str, arguments), "--device", "cpu"])
        return code, *capsys.readouterr()

    return run


def test_folders_of_every_shape_give_the_same(evaluated, tmp_path):
    whole, val, flat = tmp_path / "whole", tmp_path / "val_only", tmp_path / "flat"
    labelled.draw_classes(whole / "train", count=1)
    (whole / "train" / "ant" / "broken.png").write_text("no image")  # it is not read
    for folder in (whole / "val", val / "val", flat):
        labelled.draw_classes(folder)
    found = []
    for folder in (whole, val, flat):
        code, out, err = evaluated("--data", folder, "--json")
        assert code == 0 and err == "", err
        values = json.loads(out)
        assert values.pop("data") == folder.name and values["count"] == 12
        found.append(values)
    assert found[0] == found[1] == found[2]
    part = labelled.draw_classes(tmp_path / "part", ("cat", "bee"))
    values = json.loads(evaluated("--data", part, "--json")[1])
    assert values["confusion"] == {name: found[0]["confusion"][name] for name in ("bee", "cat")}
    assert values["per_class"] == {name: found[0]["per_class"][name] for name in ("bee", "cat")}
    assert "the data have 2 of the 3 that" in evaluated("--data", part)[1]


def test_confusions_are_those_of_the_network(network, evaluated, tmp_path):
    folder = labelled.draw_classes(tmp_path / "images")
    values = json.loads(evaluated("--data", folder, "--json")[1])
    model = timm.create_model(f"local-dir:{network}", pretrained=True).eval()
    transform = create_transform(12, mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0)
    expected, right = {}, {}
    for name in labelled.CLASSES:
        images = torch.stack([transform(read_image(path)) for path in sorted((folder / name).iterdir())])
        with torch.no_grad():
            guesses = [labelled.CLASSES[index] for index in model(images).argmax(1).tolist()]
        expected[name] = {guess: guesses.count(guess) for guess in guesses}
        right[name] = {"top1": 100 * guesses.count(name) / len(guesses), "count": len(guesses)}
    assert values["confusion"] == expected and values["per_class"] == right
    assert len({guess for row in expected.values() for guess in row}) > 1
    assert values["top1"] == pytest.approx(sum(row["top1"] for row in right.values()) / 3)


def test_the_table_and_the_picture(evaluated, tmp_path):
    folder = labelled.draw_classes(tmp_path / "images")
    code, out, err = evaluated("--data", folder, "--per-class", "--confusion", tmp_path / "taken.png")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[1].split() == ["class", "images", "top-1", "most", "often", "mistaken", "for"]
    accuracies = [float(line.split()[2]) for line in lines[2:5]]
    assert accuracies == sorted(accuracies)
    assert lines[5:] == [f"mean of 3 classes: {sum(accuracies) / 3:.2f} %"]
    assert (tmp_path / "taken.png").stat().st_size > 1000
    code, out, err = evaluated("--data", folder, "--confusion", tmp_path / "taken.txt")
    assert code == 1 and out == "" and "a picture is a .png, .svg, .pdf file" in err


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ("train only", "has train/, and no val/, validation/, test/ to test on; name"),
        ("images alone", "holds no class folders; wanted"),
        ("unknown class", "classes differ: dog in the data but not in"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(evaluated, tmp_path, shape, said):
    folder = tmp_path / "data"
    if shape == "train only":
        labelled.draw_classes(folder / "train")
    if shape == "images alone":
        labelled.draw_images(folder)
    if shape == "unknown class":
        labelled.draw_classes(folder, ("ant", "dog"))
    code, out, err = evaluated("--data", folder)
    assert code == 1 and out == "" and said in err and err.count("\n") == 1


def test_a_class_may_be_called_as_a_split(tmp_path):
    for name in ("test", "val"):
        labelled.draw_images(tmp_path / "exams" / name, count=1)
    assert find_evaluation_images(DataConfig(str(tmp_path / "exams"))).classes == ("test", "val")


@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
def test_images_are_seen_as_the_network_saw_them(tmp_path, crop_pct):
    """Of several sizes, without a size given."""
    folder = labelled.draw_images(tmp_path / "images" / "ant", count=2, size=(40, 31)).parent
    labelled.draw_images(folder / "bee", count=1, size=(17, 24))
    found = find_evaluation_images(DataConfig(str(folder)))
    loader, info = found.read(View.of({"input_size": (3, 12, 12), "crop_pct": crop_pct}))
    assert info.size == (12, 12) and info.crop_pct == crop_pct and info.test_count == 3
    ((images, targets),) = loader.epoch(0)
    transform = create_transform(12, mean=info.mean, std=info.std, crop_pct=crop_pct)
    paths = sorted(folder.rglob("*.png"))
    torch.testing.assert_close(images, torch.stack([transform(read_image(path)) for path in paths]))
    assert targets.tolist() == [0, 0, 1]


def test_every_rank_counts(network, tmp_path):
    folder = labelled.draw_classes(tmp_path / "images", count=3)
    command = ("-m", "sase_attn", "evaluate", network, "--data", folder, "--device", "cpu", "--json")
    alone, (first, second) = warm.run(*command), warm.run_ranks(2, *command)
    assert first.returncode == second.returncode == 0, first.stderr
    assert second.stdout == "" and json.loads(first.stdout)["confusion"] == json.loads(alone.stdout)["confusion"]


def test_a_class_without_images_has_no_accuracy():
    counts = torch.tensor([[3, 1, 0], [0, 0, 0], [0, 2, 2]])
    confusion = Confusion.of(counts, ("a", "b", "c"), ("a", "b", "c"), torch.arange(3))
    assert [(row.name, row.top1, row.mistaken_for) for row in confusion.accuracies()] == [
        ("a", 75.0, "b"),
        ("c", 50.0, "b"),
    ]
    assert confusion.balanced_top1 == 62.5


def test_counts_are_added(network):
    model = timm.create_model(f"local-dir:{network}", pretrained=True)
    counts = torch.ones(3, 3, dtype=torch.int64)
    evaluate(model, [(torch.randn(5, 3, 12, 12), torch.zeros(5, dtype=torch.int64))], confusion=counts)
    assert counts.sum() == 14 and counts[0].sum() == 8
