"""`search_seeds`: repeat one search with several seeds, each in a process of its own."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from sase_attn.files import remove_temporaries, write_atomically, write_json
from sase_attn.lock import one_process
from sase_attn.search.agreement import agreement
from sase_attn.search.config import SearchConfig
from sase_attn.search.result import SearchResult
from sase_attn.training.checkpoint import NAME as CHECKPOINT
from sase_attn.training.jobs import run_in_subprocess
from sase_attn.training.result import check_comparable

NAME = "seeds.json"


def search_seeds(
    config: SearchConfig,
    output: str | Path,
    seeds: Sequence[int],
    *,
    jobs: int = 1,
    device: str | None = None,
    echo: Callable[[str], object] = print,
) -> list[SearchResult]:
    """Search once with each seed, in `output/seed<n>`. Called again, it resumes searches that have not finished.

    The lines of each search are written to `output/seed<n>.log`, and how often they agree to `output/seeds.json`.

    Raises:
        ChildProcessError: a search failed; the message names its log. ImportError: scipy is not installed.
        InUseError: another process works on the folder. ValueError: a search that had finished is of other data.
    """
    output = Path(output)
    threads = max(1, (os.cpu_count() or 1) // jobs)

    def one(seed: int) -> SearchResult:
        folder, file = output / f"seed{seed}", output / f"seed{seed}.json"
        arguments = ["search", "--no-compare", *(["--device", device] if device else [])]
        if (folder / CHECKPOINT).exists():
            arguments += ["--resume", str(folder)]
        else:
            write_atomically(file, config.override(seed=seed).to_json())
            arguments += ["--recipe", str(file), "--output", str(folder)]
        run_in_subprocess(arguments, output / f"seed{seed}.log", threads=threads)
        result = SearchResult.load(folder)
        echo(f"seed {seed}: {result.genotype} after {result.seconds:.0f} s")
        return result

    with one_process(output):
        remove_temporaries(output)
        with ThreadPoolExecutor(jobs) as pool:
            results = list(pool.map(one, seeds))
        for result in results:
            check_comparable(results[0], result)
        if len(results) > 1:
            write_json(output / NAME, asdict(agreement(results)))
    return results
