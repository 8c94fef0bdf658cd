"""`benchmarks/search_signal.py`: searches leave a row once, what they find is trained once, and the summary."""

import sys

import pytest
import torch
from checkout import BENCHMARKS

sys.path.insert(0, str(BENCHMARKS))
import rows  # noqa: E402
import search_signal as study  # noqa: E402
import tables  # noqa: E402

from sase_attn.genotype import Genotype  # noqa: E402
from sase_attn.training.data.sets import Arrays  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
WANTED = [("darts, first order, mended", 0), ("single-path", 0)]


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "results")
    table = [block[:2] for block in study.blocks(study.STEPS)][:2]
    monkeypatch.setattr(study, "blocks", lambda steps: table)
    monkeypatch.setattr(study, "EPOCHS", 1)
    monkeypatch.setitem(study.METHODS, WANTED[0][0], study.METHODS[WANTED[0][0]] | {"warmup_epochs": 0})
    monkeypatch.setitem(study.METHODS, "single-path", study.METHODS["single-path"] | {"candidates": 2})
    return tmp_path / "results"


@pytest.fixture(scope="module")
def arrays():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 16, 16), generator=generator, dtype=torch.uint8)
    split = images, torch.arange(64) % 4
    return Arrays("noise", ("a", "b", "c", "d"), (0.5,) * 3, (0.25,) * 3, split, split)


def test_rows_once_and_their_summary(results, arrays, tmp_path, monkeypatch):
    (first, second, *_, last) = study.estimate(WANTED, arrays, "noise")
    assert "first order, mended: 1 searches" in first and "single-path: 1 searches" in second and "in all" in last
    study.search_missing(WANTED, arrays, "noise", tmp_path / "runs")
    before = (results / "search_signal.jsonl").read_bytes()
    found = rows.read_rows("search_signal")
    assert [(row["label"], row["seed"]) for row in found] == WANTED
    table = [str(genotype) for block in study.blocks(study.STEPS) for genotype in block]
    assert all(list(row["losses"]) == table and Genotype.parse(row["genotype"]) for row in found)
    study.search_missing(WANTED, arrays, "noise", tmp_path / "runs")
    assert (results / "search_signal.jsonl").read_bytes() == before
    done = []

    def one(label, recipe, arrays):
        done.append((label, recipe.seed))
        assert recipe.model_kwargs["gain"] == "unit" and recipe.epochs == 8
        place = {"machine": "m", "versions": {"torch": "t"}, "commit": "c"}
        return {"label": label, "seed": recipe.seed, "top1": 51.0 + recipe.seed, "seconds": 1.0, **place}

    monkeypatch.setattr(study, "one", one)
    study.train_missing(arrays, "noise")
    study.train_missing(arrays, "noise")
    assert done == [(row["genotype"], seed) for seed in range(5) for row in found]
    for place, label in enumerate(table):
        for seed in range(5):
            row = {"label": label, "seed": seed, "block": 0, "top1": 50.0 + seed + place / 2 - 0.75}
            rows.add_row("space_960", row)
    lines = tables.table("search_signal", found).splitlines()
    assert lines[4] == "" and all("| +1.00 | 100 |" in line for line in lines[2:4])
    assert [path.name for path in results.iterdir() if path.suffix == ".lock"] == []
    assert study.estimate(WANTED, arrays, "noise")[-1] == "in all 0.0 core hours"


def test_configurations_are_published_and_mended():
    published, mended = (study.config_of(f"darts, second order, {way}", 1, "x") for way in ("published", "mended"))
    assert (published.gate_init, published.last_norm_init, published.hvp) == ("drawn", "one", "fd")
    assert (mended.gate_init, mended.last_norm_init, mended.hvp) == ("centred", "network", "exact")
    assert set(published.differences(mended)) == {
        "conv_init", "gate_init", "last_norm_init", "hvp", "warmup_epochs",
    }  # fmt: skip
