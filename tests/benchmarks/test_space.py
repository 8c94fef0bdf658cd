"""The table of `benchmarks/space/`: whole blocks first, each training once, whoever trains it."""

import json
import sys
from collections import Counter
from dataclasses import asdict

import pytest
import warm
from checkout import BENCHMARKS

sys.path.insert(0, str(BENCHMARKS))
import charts  # noqa: E402
import rows  # noqa: E402
import tables  # noqa: E402
from space import cases as table_cases  # noqa: E402
from space import lengths, make_table, train_table  # noqa: E402
from space.controls import controls  # noqa: E402

from sase_attn.genotype import Genotype  # noqa: E402
from sase_attn.search.replay import SpaceTable, world_at  # noqa: E402
from sase_attn.search.replay.table import PATH, tables_json  # noqa: E402
from sase_attn.search.trained import Training  # noqa: E402
from sase_attn.training import Recipe  # noqa: E402


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def trained(results, monkeypatch):
    """Labels and seeds in the order in which they were trained, without training."""
    done = []

    def one(label, recipe, arrays):
        done.append((label, recipe.seed))
        recipe = json.loads(json.dumps(asdict(recipe)))
        return {"label": label, "seed": recipe["seed"], "top1": 50.0, "seconds": 1.0, "recipe": recipe}

    monkeypatch.setattr(train_table, "one", one)
    return done


def test_the_longest_trainings_are_of_the_first_genotypes():
    assert [len(block) for block in table_cases.blocks(960)] == [7, 7, 7, 7]
    long, short = (sum(table_cases.blocks(steps), []) for steps in (3840, 240))
    assert len(long) == 10 and long == short[:10]


def test_blocks_come_one_after_the_other_and_seeds_within_them():
    plan = list(table_cases.cases(960, "cifar"))
    assert len({(case.label, case.recipe.seed) for case in plan}) == len(plan) == (28 + 5) * 5
    assert [case.block for case in plan] == [0] * 35 + [None] * 25 + [1] * 35 + [2] * 35 + [3] * 35
    assert [case.recipe.seed for case in plan[:35]] == [seed for seed in range(5) for _ in range(7)]
    assert all(case.recipe.model_kwargs["gain"] == "unit" for case in plan if case.block is not None)
    assert all(Genotype.parse(case.label) for case in plan if case.block is not None)
    assert list(table_cases.cases(960, "cifar", 1)) == plan[:60]


def test_what_has_a_row_or_another_process_is_not_trained(results, trained):
    plan = list(table_cases.cases(240, "cifar", 1))
    train_table.train_missing(240, plan[:3], None)
    taken = train_table._lock("space_240_4")
    assert taken.acquire(wait=False)
    train_table.train_missing(240, plan[:6], None)
    taken.release()
    train_table.train_missing(240, plan[:6], None)
    wanted = [(case.label, case.recipe.seed) for case in plan]
    assert trained == [*wanted[:4], wanted[5], wanted[4]]
    found = rows.read_rows("space_240")
    assert Counter((row["label"], row["seed"]) for row in found) == Counter(wanted[:6])
    assert all(row["block"] == 0 and len(row["recipe"]) < 12 for row in found)
    assert [Recipe(**row["recipe"]) for row in found if row["label"] == plan[0].label] == [plan[0].recipe]
    assert [path.name for path in results.iterdir()] == ["space_240.jsonl"]  # no locks are left


def test_controls_of_the_same_recipe_are_not_trained_again(results, trained):
    plan = [case for case in table_cases.cases(240, "cifar") if case.block is None][:2]
    changed = [plan[0].recipe, plan[1].recipe.override(lr=0.2)]
    for case, recipe in zip(plan, changed, strict=True):
        row = {"label": case.label, "seed": 0, "top1": 40.0, "seconds": 1.0, "recipe": json.loads(recipe.to_json())}
        rows.add_row("gain_240", row)
    train_table.train_missing(240, plan, None)
    assert trained == [("constant 1.25", 0)]
    plain = next(row for row in rows.read_rows("space_240") if row["label"] == "plain")
    assert plain["top1"] == 40.0 and plain["from"] == "gain_240" and Recipe(**plain["recipe"]) == plan[0].recipe


def test_the_command():
    done = warm.run(BENCHMARKS / "space" / "train_table.py", "--help")
    assert done.returncode == 0 and "benchmarks/space/train_table.py" in done.stdout


def made_up_rows(steps, icc, count):
    """Rows of a length from a world whose truth is known."""
    world = world_at(table_cases.SPACE, icc, key=steps)
    place = {"steps": steps, "count": 10000, "machine": "M", "versions": {"torch": "2"}, "commit": "1234567890"}
    made = [{"label": "plain", "seed": 0, "block": None, "top1": 50.0, "loss": 1.5, **place}]
    for genotype in sum(table_cases.blocks(steps), [])[:count]:
        for seed in range(table_cases.SEEDS):
            row = world.train(Training(genotype, seed))
            made.append({"label": str(genotype), "seed": seed, "block": 0, "top1": row.top1, "loss": row.loss, **place})
    rows.put_rows(table_cases.study(steps), made, lambda row: True)


def test_the_correlation_of_each_length_is_shown(results, tmp_path):
    made_up_rows(240, 0.0, 14)
    made_up_rows(960, 0.6, 14)
    found = lengths.variations(lengths.all_rows())
    assert list(found) == [240, 960] and found[240].low == 0 and found[960].low > 0.2
    lines = tables.made("results", "space").splitlines()
    others = lengths.variations(lengths.without_constant(lengths.all_rows()))[960]
    assert others.genotypes == 12  # each block of seven has one
    starts = ["| 240 | all | 14 × 5 | ", "| 240 | without", "| 960 | all | 14 × 5 | ", "| 960 | without"]
    assert [line.startswith(start) for line, start in zip(lines[2:6], starts, strict=True)] == [True] * 4
    for line, icc in ((lines[4], found[960]), (lines[5], others)):
        assert f"{icc.genotypes} × 5 | {icc.icc:.2f} [{icc.low:.2f}, {icc.high:.2f}] |" in line
    charts.draw_lengths(tmp_path / "lengths.svg")
    text = (tmp_path / "lengths.svg").read_text(encoding="utf-8")
    assert f"{found[240].icc:.2f}" in text and f"[{others.low:.2f}, {others.high:.2f}]" in text


def test_controls_are_compared_with_plain_by_length(results):
    place = {"block": None, "count": 10000, "machine": "M", "versions": {"torch": "2"}, "commit": "1234567890"}
    for steps in (240, 960, 3840):
        ahead = {label: order * steps / 960 for order, label in enumerate(table_cases.CONTROLS)}
        made = [
            {"label": label, "seed": seed, "steps": steps, "top1": 50 + seed + more, "loss": more, **place}
            for label, more in ahead.items()
            for seed in range(table_cases.SEEDS)
        ]
        rows.put_rows(table_cases.study(steps), made[: -1 if steps == 3840 else None], lambda row: True)
    lines = tables.made("results", "space_controls").splitlines()
    assert lines[0] == "| minus plain | 240 steps, points | 960 steps, points | loss, 960 steps |"  # one row is missing
    assert lines[2] == "| plain | | | 0.00 ± 0.00 |"
    assert lines[3].startswith("| constant 1.25 | +0.25 [+") and lines[3].endswith("better | 1.00 ± 0.00 |")
    assert len(lines) == 9 and lines[8].startswith("5 paired seeds") and lines[8].endswith("commit 1234567.")
    assert "would be seen in four of five cases, before the correction; the setting" in lines[8]


@pytest.mark.parametrize("seeds", [1, 4])
def test_controls_without_enough_seeds_have_no_verdict(results, seeds):
    place = {"block": None, "count": 10000, "steps": 240}
    made = [
        {"label": label, "seed": seed, "top1": 50.0 + seed, "loss": 1.0, **place}
        for label in table_cases.CONTROLS
        for seed in range(seeds)
    ]
    lines = controls(made, "place").splitlines()
    assert lines[3].startswith(f"| constant 1.25 | +0.00, not judged: {seeds} of at least 5 seeds | 1.00")
    assert "would be seen" not in lines[-1]
    with pytest.raises(ValueError, match="wanted rows of plain, constant 1.25, .* same seeds, got them for no l"):
        controls(made[:-1], "place")


def test_the_table_of_the_package_is_made_of_whole_genotypes(results, tmp_path, monkeypatch):
    monkeypatch.setattr(make_table, "PATH", tmp_path / "table.json")
    assert make_table.tables() == []
    made_up_rows(960, 0.3, 7)
    last = rows.read_rows("space_960")[-1]["label"]
    rows.put_rows("space_960", [], lambda row: (row["label"], row["seed"]) == (last, 4))
    monkeypatch.setattr(sys, "argv", ["make_table.py"])
    make_table.main()
    table = SpaceTable.load(960, tmp_path / "table.json")
    assert len(table.genotypes) == 30 and last not in {row.network for row in table.genotypes}
    assert [row.network for row in table.controls] == ["plain"]


def test_the_table_of_the_package_is_that_of_the_rows():
    made = make_table.tables()
    assert (PATH.read_text(encoding="utf-8") if PATH.exists() else None) == (tables_json(made) if made else None)
