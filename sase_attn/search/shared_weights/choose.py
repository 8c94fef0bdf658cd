"""`choose`: the genotype of a trained super-network, by the largest alphas, by perturbation or by score.

A single-path search has no alpha: random genotypes, or all of a small space, are then scored.

Perturbation is the selection of DARTS-PT (Wang et al., arXiv 2108.04392): edge by edge, in an order drawn by the seed,
the operation is kept whose removal lowers the super-network's validation accuracy most (ties: validation loss), and the
weights are tuned before the next edge. Deviation: the weights of the remaining operations sum to 1 again.
"""

import itertools
from collections.abc import Callable
from pathlib import Path

import torch

from sase_attn.genotype import Genotype
from sase_attn.search.config import SearchConfig
from sase_attn.search.shared_weights.scorer import Scored, Scorer
from sase_attn.search.space import SearchSpace


def choose(
    config: SearchConfig,
    scorer: Scorer,
    argmax: Genotype | None,
    folder: Path,
    *,
    tune: Callable[[], object],
    echo: Callable[[str], object],
) -> tuple[Genotype, list[Scored]]:
    """The genotype by the configuration's selection, and all that were scored for it, the lowest loss first.

    Args:
        config: `select` says how. By score, the genotype of alpha is compared with `candidates` random ones.
        scorer: the scorer of the trained super-network.
        argmax: the genotype of the largest alphas; None if there is no alpha.
        folder: the folder for `scores.jsonl` of a selection by score, which continues where it was stopped.
        tune, echo: see `choose_by_perturbation`.
    """
    if argmax is None:
        candidates = distinct_genotypes(scorer.space, config.candidates)
        echo(f"scoring {len(candidates)} genotypes by the shared weights")
        scored = scorer.score_all(candidates, folder / "scores.jsonl")
        return scored[0].genotype, scored
    if config.select == "perturbation":
        columns = choose_by_perturbation(scorer, seed=config.seed, tune=tune, echo=echo)
        return scorer.space.genotype(columns), []
    if config.select == "score":
        drawn = [scorer.space.random(seed) for seed in range(config.candidates)]
        scored = scorer.score_all(dict.fromkeys([argmax, *drawn]), folder / "scores.jsonl")
        return scored[0].genotype, scored
    return argmax, []


def distinct_genotypes(space: SearchSpace, count: int) -> list[Genotype]:
    """`count` different random genotypes, or all genotypes of a space that has no more."""
    if count >= space.size:
        return list(space)
    found: dict[Genotype, None] = {}
    for seed in itertools.count():
        if len(found) == count:
            break
        found[space.random(seed)] = None
    return list(found)


def choose_by_perturbation(
    scorer: Scorer,
    *,
    seed: int,
    tune: Callable[[], object] = lambda: None,
    echo: Callable[[str], object] = lambda line: None,
) -> tuple[int, ...]:
    """The column of each edge that is kept: the one whose removal hurts the super-network most.

    Args:
        scorer: the scorer of the trained super-network.
        seed: fixes the order in which edges are decided.
        tune: trains the weights after each edge except the last, with the operations decided so far.
        echo: called with a line for each edge.
    """
    architecture = scorer.architecture
    left = architecture.mask.clone()
    order = torch.randperm(len(left), generator=torch.Generator().manual_seed(seed)).tolist()
    edges = list(architecture.columns)
    for place, row in enumerate(order):
        worst: dict[int, tuple[float, float]] = {}
        for column in left[row].nonzero().flatten().tolist():
            without = left.clone()
            without[row, column] = False
            if not without[row].any():
                worst[column] = (0.0, 0.0)
                continue
            with architecture.only(without):
                found = scorer.mixture()
            worst[column] = (found.top1, -found.loss)
        kept = min(worst, key=lambda column: worst[column])
        left[row] = False
        left[row, kept] = True
        echo(f"{edges[row]}: {architecture.columns[edges[row]][kept]}")
        if place < len(order) - 1:
            with architecture.only(left):
                tune()
    return tuple(left.int().argmax(-1).tolist())
