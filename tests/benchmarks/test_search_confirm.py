"""`benchmarks/search_confirm.py`: a search, what it found with fresh seeds, and the table of both."""

import sys

import pytest
from checkout import BENCHMARKS
from simulated_trainings import of_nothing, simulate_trainings

sys.path.insert(0, str(BENCHMARKS))
import rows  # noqa: E402
import search_confirm  # noqa: E402
import tables  # noqa: E402


@pytest.mark.usefixtures("one_thread")
def test_the_search_goes_on_and_is_judged_by_seeds_that_did_not_choose(tmp_path, monkeypatch, capsys):
    simulate_trainings(monkeypatch)[0] = of_nothing
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(sys, "argv", ["search_confirm.py", "--output", str(tmp_path / "run")])
    search_confirm.main()
    found = rows.read_rows("search_confirm")
    labels = {row["label"] for row in found}
    assert {"plain", "found", "random-0", "random-1"} < labels and len(labels) == 5  # and a constant
    assert {row["seed"] for row in found} == set(range(1000, 1008)) and len(found) == 40
    assert {(row["trainings"], row["answer"]) for row in found} == {(42, "nothing to find")}
    lines = tables.table("search_confirm", found).splitlines()
    assert lines[2].startswith("| plain | 55.00") and "The look for signal answered: nothing to find. " in lines[-1]
    search_confirm.main()  # nothing is trained again
    assert rows.read_rows("search_confirm") == found and "cannot be told apart" in capsys.readouterr().out
