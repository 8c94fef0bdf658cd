"""`train_all`: many runs, one after the other in this process, or several at a time in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sase_attn.files import write_atomically
from sase_attn.training import checkpoint
from sase_attn.training.recipes import Recipe
from sase_attn.training.result import TrainResult, read_result
from sase_attn.training.run import train


def train_all(
    runs: Sequence[tuple[Recipe, Path]],
    *,
    jobs: int = 1,
    device: str | None = None,
    echo: Callable[[str], object] = print,
) -> Iterator[TrainResult]:
    """Yield the results of runs, in their order. Interrupted runs are resumed, and finished ones are not repeated.

    Args:
        runs: recipe and folder of each run.
        jobs: how many run at a time. If more than one, they share the cores, and write their lines to `FOLDER.log`.
        device: see `train`.
        echo: called with the lines of runs, if one runs at a time.

    Raises:
        ChildProcessError: a run in a process of its own failed; the message names its log. Otherwise as `train`.
    """
    if jobs == 1:
        for recipe, folder in runs:
            resume = (folder / checkpoint.NAME).exists()
            yield train(recipe, folder, resume=resume, device=device, echo=echo)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ThreadPoolExecutor(jobs) as pool:
        pending = [pool.submit(train_in_subprocess, recipe, folder, threads, device) for recipe, folder in runs]
        try:
            for run in pending:
                yield run.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def train_in_subprocess(recipe: Recipe, folder: Path, threads: int, device: str | None = None) -> TrainResult:
    """Train in a new process, or resume the run in the folder there. Raises ChildProcessError if it fails."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    file, log = (folder.parent / f"{folder.name}.{suffix}" for suffix in ("json", "log"))
    write_atomically(file, recipe.to_json())
    arguments = ["train", "--recipe", str(file), "--output", str(folder)]
    arguments += ["--resume"] * (folder / checkpoint.NAME).exists() + (["--device", device] if device else [])
    run_in_subprocess(arguments, log, threads=threads)
    result = read_result(folder)
    assert result is not None
    return result


def run_in_subprocess(arguments: Sequence[str], log: Path, *, threads: int) -> None:
    """Run a command of `sase-attn` to its end, in a process of its own.

    Args:
        arguments: the name of the command and its arguments.
        log: the file to which its output is appended.
        threads: the number of OpenMP threads.

    Raises:
        ChildProcessError: it failed; the message has the last line of its output, and names the log.
    """
    with log.open("a") as output:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "sase_attn", *arguments]
        done = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    if done.returncode:
        last = (log.read_text(errors="replace").splitlines() or [""])[-1]
        words = " ".join(arguments)
        raise ChildProcessError(f"sase-attn {words} ended with code {done.returncode}: {last} (see {log})")
