"""The table of `benchmarks/space/`: whole blocks first, each training once, whoever trains it."""

import json
import sys
from collections import Counter
from dataclasses import asdict

import pytest
import warm
from checkout import BENCHMARKS

sys.path.insert(0, str(BENCHMARKS))
import rows  # noqa: E402
from space import cases as table_cases  # noqa: E402
from space import train_table  # noqa: E402

from sase_attn.genotype import Genotype  # noqa: E402
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
