"""Fixtures of all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores, and so do the processes that they start: more threads than cores cost several times.
    os.environ["OMP_NUM_THREADS"] = "1"

import pytest  # noqa: E402
import torch  # noqa: E402
import warm  # noqa: E402

NEIGHBOURS = Path(__file__).parent / "neighbours"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The tests with other people's tools run only when they are named."""
    if collection_path != NEIGHBOURS:
        return None
    named = [(config.invocation_params.dir / argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path.is_relative_to(NEIGHBOURS) for path in named) else True


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws does not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For modules of many tiny maps, where threads cost several times what they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def forked_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in processes of their own are forked: see `warm`."""
    monkeypatch.setattr("sase_attn.training.jobs.subprocess.run", warm.instead_of_subprocess_run)
