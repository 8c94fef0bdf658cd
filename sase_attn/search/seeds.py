"""Several searches that differ in their seed, each in a process of its own, and how far they agree."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean

from sase_attn.files import write_atomically, write_json
from sase_attn.genotype import EDGES
from sase_attn.search.checkpoint import NAME as CHECKPOINT
from sase_attn.search.config import SearchConfig
from sase_attn.search.result import SearchResult
from sase_attn.training.jobs import run_apart

NAME = "seeds.json"


@dataclass(frozen=True)
class Agreement:
    """How far searches agree.

    Attributes:
        genotypes: of each seed. `same`: for each edge, the part of all pairs of seeds that chose the same operation.
        tau: for each edge, the mean over pairs of seeds of Kendall's τ between their rankings of its operations.
        chance: what `same` would be on average if operations were drawn at random.
    """

    genotypes: dict[str, str]
    same: dict[str, float]
    tau: dict[str, float | None]
    chance: dict[str, float]

    def lines(self) -> list[str]:
        """For people."""
        return [f"seed {seed}: {genotype}" for seed, genotype in self.genotypes.items()] + [
            f"{edge}: {100 * self.same[edge]:.0f} % of pairs of seeds agree (by chance {100 * self.chance[edge]:.0f} %)"
            + ("" if self.tau[edge] is None else f", τ of the rankings {self.tau[edge]:.2f}")
            for edge in EDGES
        ]


def agreement(results: Sequence[SearchResult]) -> Agreement:
    """Of two searches or more over one space. Raises ValueError for fewer, or for different spaces."""
    if len(results) < 2 or any(result.columns != results[0].columns for result in results):
        raise ValueError(f"wanted two searches or more over one space, got {len(results)}")
    try:
        from scipy.stats import kendalltau
    except ImportError:
        raise ImportError('rank correlations need scipy: pip install "sase-attn[search]"') from None
    same, taus, chance = {}, {}, {}
    for row, edge in enumerate(EDGES):
        pairs = list(combinations(results, 2))
        same[edge] = mean(getattr(a.found, edge) == getattr(b.found, edge) for a, b in pairs)
        count = len(results[0].columns[edge])
        chance[edge] = 1 / count
        ranks = [kendalltau(a.alpha[row][:count], b.alpha[row][:count]).statistic for a, b in pairs]
        taus[edge] = float(mean(ranks)) if count > 1 and all(rank == rank for rank in ranks) else None
    names = {str(result.config["seed"]): result.genotype for result in results}
    return Agreement(names, same, taus, chance)


def search_seeds(
    config: SearchConfig,
    output: str | Path,
    seeds: Sequence[int],
    *,
    jobs: int = 1,
    device: str | None = None,
    echo: Callable[[str], object] = print,
) -> list[SearchResult]:
    """Search once with each seed, in `output/seed<n>`; what is interrupted resumes, what has finished is left alone.

    The lines of each search go to `output/seed<n>.log`. How far they agree goes to `output/seeds.json`.

    Raises:
        ChildProcessError: a search failed; the message names its log. ImportError: scipy is not installed.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // jobs)

    def one(seed: int) -> SearchResult:
        folder, file = output / f"seed{seed}", output / f"seed{seed}.json"
        arguments = ["search", "--no-compare", *(["--device", device] if device else [])]
        if (folder / CHECKPOINT).exists():
            arguments += ["--resume", str(folder)]
        else:
            write_atomically(file, config.override(seed=seed).to_json())
            arguments += ["--recipe", str(file), "--output", str(folder)]
        run_apart(arguments, output / f"seed{seed}.log", threads=threads)
        result = SearchResult.load(folder)
        echo(f"seed {seed}: {result.genotype} after {result.seconds:.0f} s")
        return result

    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(one, seeds))
    if len(results) > 1:
        write_json(output / NAME, asdict(agreement(results)))
    return results
