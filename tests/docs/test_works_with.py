"""The page *Works with* lists exactly the tests of `tests/neighbours`, and the extra installs their tools."""

import re
import tomllib

import neighbours
import pytest
from checkout import ROOT


def test_the_page_lists_the_tests():
    stated = [(row.tool, row.run) for row in neighbours.stated()]
    shown = [(row.tool, row.run) for row in neighbours.shown()]
    assert shown == sorted(set(stated)), "run pytest tests/neighbours --write-page"
    assert len(stated) == len(set(stated)), "two tests state the same"
    assert all(row.version and row.result for row in neighbours.shown())


def test_the_extra_installs_the_tools():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    required = [*project["dependencies"], *extras["export"], *extras["test"], *extras["test-neighbours"]]
    assert {row.tool for row in neighbours.stated()} <= {re.split(r"[\[<>=]", name)[0] for name in required}


def test_a_test_that_states_nothing(tmp_path, monkeypatch):
    (tmp_path / "test_some_tool.py").write_text("def test_it():\n    pass\n")
    monkeypatch.setattr(neighbours, "ROOM", tmp_path)
    with pytest.raises(ValueError, match=r"test_some_tool\.py::test_it wants @pytest\.mark\.works_with"):
        neighbours.stated()


def test_the_room_is_run_by_name_only(pytestconfig):
    collected = {hook for hook in pytestconfig.args if "neighbours" in hook}
    hook = pytestconfig.hook.pytest_ignore_collect
    assert hook(collection_path=neighbours.ROOM, config=pytestconfig) is (None if collected else True)
