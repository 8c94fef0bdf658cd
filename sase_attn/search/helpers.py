"""Further workers of a search by trainings, each in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def helpers(
    folder: Path, count: int, *, storage: str | None, device: str | None, echo: Callable[[str], object]
) -> Iterator[None]:
    """Within the context so many more workers are at the search of a folder; it waits for their ends.

    Where the context ends by an error or Ctrl-C they are stopped. What they train is then resumed by the next worker.

    Args:
        folder: of the search; it holds the configuration. The lines of a worker go to `helper<n>.log`.
        count: of processes.
        storage, device: as the search has them.
        echo: gets a line if one of them failed; its work is then for the others.

    Raises:
        OSError: a process, or its log, cannot be started.
    """
    command = [sys.executable, "-m", "sase_attn", "search", "--resume", str(folder), "--no-compare"]
    command += [*(["--storage", storage] if storage else []), *(["--device", device] if device else [])]
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // (count + 1)))}
    started = {}
    try:
        for number in range(count):
            path = folder / f"helper{number + 1}.log"
            with path.open("a") as log:
                started[path] = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        yield
    except BaseException:
        for process in started.values():
            process.terminate()
        raise
    else:
        for path, process in started.items():
            if process.wait():
                echo(f"a worker ended with code {process.returncode}: see {path}")
    finally:
        for process in started.values():
            process.wait()
