"""`helpers`: start further workers of a search by trainings, each in a process of its own."""

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
    """A context in which `count` more workers take part in a search; at its end it waits for them.

    If the context ends by an error or Ctrl-C, they are stopped. The next worker then resumes what they were training.

    Args:
        folder: the folder of the search, which holds the configuration. A worker writes its lines to `helper<n>.log`.
        count: how many processes to start.
        storage, device: those of the search.
        echo: called with a line if a worker failed; the others then do its work.

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
