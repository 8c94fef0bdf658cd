"""`benchmarks/search_methods.py`: every method in the same worlds, rows that are replaced, and what the table marks."""

import sys

import pytest
from checkout import BENCHMARKS

sys.path.insert(0, str(BENCHMARKS))
import rows  # noqa: E402
import search_methods  # noqa: E402
import tables  # noqa: E402

from sase_attn.search.methods import METHODS  # noqa: E402


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "results")


@pytest.mark.usefixtures("results")
def test_every_method_is_replayed_in_the_same_worlds(monkeypatch):
    monkeypatch.setattr(search_methods, "MANY", 3)
    monkeypatch.setattr(search_methods, "WORLDS", {"tpe": 2})
    monkeypatch.setattr(search_methods, "TRAININGS", (4, 10))
    monkeypatch.setattr(sys, "argv", ["search_methods.py", "--only", "ICC 0.3"])
    search_methods.main()
    found = rows.read_rows("search_methods")
    assert {(row["label"], row["trainings"], row["cost"]) for row in found} == {
        (method, count, count) for method in METHODS for count in (4, 10)
    }
    assert {len(row["gains"]) for row in found if row["label"] != "tpe"} == {3}
    once = next(row for row in found if (row["label"], row["trainings"]) == ("race", 4))
    again = search_methods.row_of("race", "ICC 0.3", search_methods.worlds()["ICC 0.3"], 4)
    assert again["gains"] == once["gains"]
    search_methods.main()
    assert len(rows.read_rows("search_methods")) == len(found)


def test_the_table_marks_what_cannot_be_told_from_the_best():
    def row(label, world, gains):
        place = {"machine": "M", "versions": {"torch": "2"}, "commit": "1234567890"}
        return {"label": label, "world": world, "trainings": 10, "cost": 10, "gains": gains, **place}

    made = [
        row("best", "ICC 0.3", [1.0, 2.0, 3.0, 4.0]),
        row("near", "ICC 0.3", [0.5, 2.5]),  # in fewer worlds
        row("below", "ICC 0.3", [0.8, 1.7, 2.8, 3.7]),
        row("best", "ICC 0", [0.0, 0.0]),
    ]
    lines = tables.table("search_methods", made).splitlines()
    assert lines[2] == "| ICC 0.3 | best | **2.50** ± 1.27 |"
    assert lines[3].startswith("| ICC 0.3 | near | **1.50**")
    assert lines[4].startswith("| ICC 0.3 | below | 2.25 ")
    assert lines[5] == "| ICC 0 | best | 0.00 ± 0.00 |"
    assert "over 2 or 4 worlds" in lines[-1] and "commit 1234567" in lines[-1]
