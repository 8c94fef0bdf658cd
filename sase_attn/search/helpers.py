"""Further workers of a search by trainings, each in a process of its own."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from sase_attn.training.jobs import run_in_subprocess


@contextmanager
def helpers(
    folder: Path, count: int, *, storage: str | None, device: str | None, echo: Callable[[str], object]
) -> Iterator[None]:
    """Within the context so many more workers are at the search of a folder; it waits for their ends.

    Args:
        folder: of the search; it holds the configuration. The lines of a worker go to `helper<n>.log`.
        count: of processes.
        storage, device: as the search has them.
        echo: gets a line if one of them failed; its work is then for the others.
    """
    if not count:
        yield
        return
    arguments = ["search", "--resume", str(folder), "--no-compare"]
    arguments += [*(["--storage", storage] if storage else []), *(["--device", device] if device else [])]
    threads = max(1, (os.cpu_count() or 1) // (count + 1))
    with ThreadPoolExecutor(count) as pool:
        logs = [folder / f"helper{number + 1}.log" for number in range(count)]
        started = [pool.submit(run_in_subprocess, arguments, log, threads=threads) for log in logs]
        yield
        for process in started:
            try:
                process.result()
            except ChildProcessError as error:
                echo(str(error))
