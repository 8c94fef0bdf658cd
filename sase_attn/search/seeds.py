"""`search_seeds`: repeat one search with several seeds, each in a process of its own."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from sase_attn.files import remove_temporaries, write_atomically, write_json
from sase_attn.lock import one_process
from sase_attn.search.agreement import agreement
from sase_attn.search.config import MAY_CHANGE, SearchConfig
from sase_attn.search.result import SearchResult
from sase_attn.search.shared_weights.checkpoint import load_search
from sase_attn.training.checkpoint import NAME as CHECKPOINT
from sase_attn.training.checkpoint import check_same
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

    A search that has begun must be the same one; fields of `MAY_CHANGE` take their new values.

    The lines of each search are written to `output/seed<n>.log`, and how often they agree to `output/seeds.json`.

    Raises:
        ChildProcessError: a search failed; the message names its log. ImportError: scipy is not installed.
        InUseError: another process works on the folder. ValueError: a search that has begun differs in its settings, or
            is of other data.
    """
    output = Path(output)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    begun: dict[int, SearchConfig] = {}

    def one(seed: int) -> SearchResult:
        folder, file = output / f"seed{seed}", output / f"seed{seed}.json"
        arguments = ["search", "--no-compare", *(["--device", device] if device else [])]
        if seed in begun:
            arguments += ["--resume", str(folder), *_changes(config, begun[seed])]
        else:
            write_atomically(file, config.override(seed=seed).to_json())
            arguments += ["--recipe", str(file), "--output", str(folder)]
        run_in_subprocess(arguments, output / f"seed{seed}.log", threads=threads)
        result = SearchResult.load(folder)
        echo(f"seed {seed}: {result.genotype} after {result.seconds:.0f} s")
        return result

    with one_process(output):
        remove_temporaries(output)
        for seed in seeds:
            if (output / f"seed{seed}" / CHECKPOINT).exists():
                begun[seed] = load_search(output / f"seed{seed}").settings
                check_same(config.override(seed=seed), begun[seed], MAY_CHANGE)
        with ThreadPoolExecutor(jobs) as pool:
            results = list(pool.map(one, seeds))
        for result in results:
            check_comparable(results[0], result)
        if len(results) > 1:
            write_json(output / NAME, asdict(agreement(results)))
    return results


def _changes(config: SearchConfig, begun: SearchConfig) -> list[str]:
    """The flags by which a search that has begun takes the values of a configuration that may change."""
    changed = {name: getattr(config, name) for name in config.differences(begun) if name in MAY_CHANGE}
    flags = [word for module in changed.pop("imports", ()) for word in ("--import", module)]
    for name, value in changed.items():
        if name not in config.without_effect:
            flags += [f"--{name.replace('_', '-')}", str(value)]
    return flags
