"""The page made from the tests in `tests/neighbours`: tool, version, what was run, and the result."""

import ast
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from checkout import ROOT

ROOM = ROOT / "tests" / "neighbours"
PAGE = ROOT / "docs" / "works-with.md"
_TITLE = """\
# Works with

What other tools do with networks of this library. Every line is a test in `tests/neighbours`, run with the real tool.

"""
_HEAD = "| tool | version | what was run | result |\n| --- | --- | --- | --- |\n"
_FOOT = """
Run them with `pip install -e ".[test,test-neighbours]"` and `pytest tests/neighbours`. With `--write-page`, that writes
the lines of the tests that it ran into this page.
"""
_ROW = re.compile(r"^\| \[(.+?)\]\(.*?\) \| (.*?) \| (.*?) \| (.*?) \|$", flags=re.MULTILINE)


@dataclass(frozen=True, order=True)
class Row:
    """One line of the page."""

    tool: str
    run: str
    version: str = ""
    result: str = ""

    def __str__(self) -> str:
        return f"| [{self.tool}](https://pypi.org/project/{self.tool}/) | {self.version} | {self.run} | {self.result} |"


def installed(tool: str) -> str | None:
    """The version of an installed distribution."""
    try:
        return version(tool)
    except PackageNotFoundError:
        return None


def stated() -> list[Row]:
    """Tool and run of every test in the folder, read from the source, so that the tools need not be installed.

    Raises:
        ValueError: a test does not state them as two literals of `pytest.mark.works_with`.
    """
    rows = []
    for path in sorted(ROOM.glob("**/test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                rows.append(_statement(node, f"{path.name}::{node.name}"))
            elif isinstance(node, ast.ClassDef):
                raise ValueError(f"{path.name}::{node.name}: tests of this room are functions")
    return rows


def _statement(test: ast.FunctionDef, name: str) -> Row:
    for decorator in test.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.works_with":
            tool, run = (ast.literal_eval(argument) for argument in decorator.args)
            return Row(tool, run)
    raise ValueError(f"{name} wants @pytest.mark.works_with(tool's PyPI name, what was run), and has none")


def shown() -> list[Row]:
    """The rows of the page."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    return [Row(tool, run, version, result) for tool, version, run, result in _ROW.findall(text)]


def write(results: Iterable[Row]) -> None:
    """Write the page: these rows, and old rows of tests that did not run now, if the versions are the same."""
    python = ".".join(platform.python_version_tuple()[:2])
    versions = f"Run with Python {python}, torch {version('torch').partition('+')[0]} and timm {version('timm')}.\n\n"
    wanted = {(row.tool, row.run) for row in stated()}
    same = PAGE.exists() and versions in PAGE.read_text(encoding="utf-8")
    rows = {(row.tool, row.run): row for row in [*(shown() if same else ()), *results]}
    lines = [f"{rows[key]}\n" for key in sorted(rows) if key in wanted]
    PAGE.write_text(_TITLE + versions + _HEAD + "".join(lines) + _FOOT, encoding="utf-8")
