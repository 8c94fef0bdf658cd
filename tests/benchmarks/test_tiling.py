"""The study of tiling without retraining: its cases, its rows, its table."""

import sys

import pytest
import torch
from checkout import BENCHMARKS
from PIL import Image

sys.path.insert(0, str(BENCHMARKS))
import rows  # noqa: E402
import tables  # noqa: E402
import tiling  # noqa: E402

from sase_attn.training import Recipe  # noqa: E402
from sase_attn.training.run import train  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network trained for two epochs on images of noise, brighter towards the top in one class."""
    folder = tmp_path_factory.mktemp("made")
    generator = torch.Generator().manual_seed(0)
    slope = torch.linspace(1, 0, 32)[:, None, None]
    for split in ("train", "val"):
        for name, light in (("flat", 0.0), ("top", 1.0)):
            (folder / "data" / split / name).mkdir(parents=True)
            for index in range(8):
                pixels = (torch.rand(32, 32, 3, generator=generator) + light * slope).mul(120).byte().numpy()
                Image.fromarray(pixels).save(folder / "data" / split / name / f"{index}.png")
    # A single hidden unit is often dead. Branches that start at zero would hide their gates behind rounding: an epoch
    # brings them to a thousandth of the map.
    kwargs = {"attn_args": {"rd_ratio": 0.5}, "zero_init_last": False}
    recipe = Recipe(
        model="se_resnet20", model_kwargs=kwargs, data=str(folder / "data"), epochs=2, batch_size=4, lr=0.05, seed=3
    )
    train(recipe, folder / "run", device="cpu", echo=lambda line: None)
    return folder / "run"


def test_cases():
    labels = [str(case) for case in tiling.cases(9)]
    assert labels[:6] == ["1 rows", "2 rows", "4 rows", "7 rows", "14 rows", "full"]
    assert labels[6:11] == ["1×1", "2×2", "4×4", "7×7", "14×14"]
    assert labels[11:13] == ["1 rows, first 1", "2 rows, first 1"] and labels[-1] == "7 rows, first 8"
    assert len(set(labels)) == len(labels)


def test_study(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "results")
    evaluated = []

    def counted(model, *rest):
        evaluated.append(model)
        return evaluate(model, *rest)

    evaluate = tiling.evaluate
    monkeypatch.setattr(tiling, "evaluate", counted)
    monkeypatch.setattr(tiling, "HEIGHTS", (2, 14, 40, None))
    monkeypatch.setattr(tiling, "FIRST_HEIGHTS", (2,))
    monkeypatch.setattr(sys, "argv", ["tiling.py", str(run)])
    tiling.main()
    assert (
        len(evaluated) == 1 + 3 + 2 + 4
    )  # as it is; 2, 14 and 40 = full; 2×2 and 14×14 (40×40 is full); first 1, 2, 4, 8
    got = {row["label"].removeprefix("se_resnet20 on data, "): row for row in rows.read_rows("tiling")}
    assert len(got) == len(capsys.readouterr().out.splitlines()) == 4 + 3 + 4
    assert all(row["seed"] == 3 and row["count"] == 16 and row["modules"] == 9 for row in got.values())
    assert all(row["recipe"]["data"] == "data" and row["versions"]["torch"] for row in got.values())
    for name in ("full", "40 rows", "40×40"):
        assert (got[name]["top1"], got[name]["loss"]) == (got[name]["before_top1"], got[name]["before_loss"])
        assert got[name]["tiled_activations"] == got[name]["se_activations"]
    assert got["2 rows"]["loss"] != got["full"]["loss"] != got["2×2"]["loss"]
    held = [
        got[name]["tiled_activations"] for name in ("2 rows", "2 rows, first 8", "2 rows, first 4", "2 rows, first 1")
    ]
    assert held == sorted(held) and held[0] < held[-1] < got["full"]["se_activations"]

    tiling.main()
    assert len(evaluated) == 10 and not capsys.readouterr().out  # every case has its row
    text = tables.table("tiling", rows.read_rows("tiling"))
    lines = text.splitlines()
    assert lines[0] == "| network | tiles | 2 rows | 14 rows | 40 rows | full |"
    kinds = [line.split("|")[2].strip() for line in lines[2:-2]]
    assert kinds == ["rows", "squares", *(f"rows, first {n} of 9" for n in (1, 2, 4, 8))]
    assert lines[2].count("(100) |") == 2 and lines[4].count("(") == 1
    assert f"{got['full']['top1']:.2f} (100) |" in lines[2]
    assert "se_resnet20 on data: 1 seed; 16 test images" in lines[-1]


def test_table_over_seeds():
    place = {"machine": "M", "versions": {"torch": "2"}, "commit": "1234567890", "count": 1000, "modules": 9}
    made = [
        {"label": "net, 7 rows", "network": "net", "seed": seed, "rows": 7, "columns": None, "first": None,
         "top1": top1, "before_top1": 90.0, "se_activations": 1000, "tiled_activations": 250, **place}
        for seed, top1 in ((0, 88.0), (1, 89.0))
    ]  # fmt: skip
    text = tables.table("tiling", made)
    assert "| network | tiles | 7 rows |" in text and "| net | rows | 88.50 ± 0.71 (25) |" in text
    assert "net: 2 seeds; 1,000 test images" in text and text.endswith("M; torch 2; commit 1234567.")


@pytest.mark.parametrize(
    "argv, code, said", [(["--help"], 0, "benchmarks/tiling.py RUN"), (["."], 2, "no recipe.json")]
)
def test_command(argv, code, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tiling.py", *argv])
    with pytest.raises(SystemExit) as exit:
        tiling.main()
    assert exit.value.code == code
    assert said in "".join(capsys.readouterr())
