"""Networks of this library in other people's tools. Every test states its tool and what was run.

    pip install -e ".[test,test-neighbours]"
    pytest tests/neighbours [--write-page] [--no-skips]

A test looks like this, and imports its tool inside:

    @pytest.mark.works_with("torchao", "int8 weights of a SASE ResNet")
    def test_int8_weights():
        from torchao.quantization import quantize_

`works_with(…, may_skip="no GPU")` is for a test that may skip, for that reason, under `--no-skips` too.
"""

from collections.abc import Generator, Iterator

import neighbours
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-page", action="store_true", help="write the results to docs/works-with.md")
    parser.addoption("--no-skips", action="store_true", help="a test that skips fails, unless it says that it may")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "works_with(tool, run, may_skip=None): its PyPI name; a short phrase")
    if config.getoption("--write-page") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Results())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    neighbours.stated()
    for item in items:
        marker = item.get_closest_marker("works_with")
        item.user_properties.append(("works_with", list(marker.args)))


@pytest.fixture(autouse=True)
def tool_is_installed(request: pytest.FixtureRequest) -> None:
    """Skips the test of a tool that is not there."""
    tool, _ = request.node.get_closest_marker("works_with").args
    if neighbours.installed(tool) is None:
        pytest.skip(f"{tool} is not installed")


@pytest.fixture(autouse=True)
def few_threads(one_thread: None) -> None:
    """All networks here are tiny."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    may_skip = item.get_closest_marker("works_with").kwargs.get("may_skip")
    if item.config.getoption("--no-skips") and report.skipped and not may_skip:
        report.outcome, report.longrepr = "failed", f"skipped, and --no-skips was given: {report.longrepr[2]}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if collector.config.getoption("--no-skips") and report.outcome == "skipped":
        report.outcome, report.longrepr = "failed", f"skipped, and --no-skips was given: {report.longrepr}"
    return report


class Results:
    """Gathers how each test ended, and writes the page."""

    def __init__(self) -> None:
        self.results: dict[tuple[str, str], str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        tool, run = dict(report.user_properties)["works_with"]
        before = self.results.get((tool, run), "passes")
        if report.failed or hasattr(report, "wasxfail"):
            self.results[tool, run] = "fails"
        elif report.skipped and before != "fails":
            self.results[tool, run] = f"not run: {report.longrepr[2].removeprefix('Skipped: ')}"
        else:
            self.results[tool, run] = before

    def rows(self) -> Iterator[neighbours.Row]:
        for (tool, run), result in self.results.items():
            yield neighbours.Row(tool, run, (neighbours.installed(tool) or "–").partition("+")[0], result)

    def pytest_sessionfinish(self) -> None:
        if self.results:
            neighbours.write(self.rows())
