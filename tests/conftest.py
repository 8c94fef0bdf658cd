"""Settings and fixtures for all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers and the processes that they start share the cores; with more threads than cores all become much slower.
    os.environ["OMP_NUM_THREADS"] = "1"

import pytest  # noqa: E402
import torch  # noqa: E402
import warm  # noqa: E402

NEIGHBOURS = Path(__file__).parent / "neighbours"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Run the tests with other projects' tools, `tests/neighbours`, only when they are named."""
    if collection_path != NEIGHBOURS:
        return None
    named = [(config.invocation_params.dir / argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path.is_relative_to(NEIGHBOURS) for path in named) else True


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed every test, so that its random draws do not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Use one thread in tests with many tiny maps, where several threads would be much slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def forked_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the separate processes of runs from one that has imported torch already: see `warm`."""
    monkeypatch.setattr("sase_attn.training.jobs.subprocess.run", warm.instead_of_subprocess_run)
