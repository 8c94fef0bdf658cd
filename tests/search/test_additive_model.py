"""The additive model: the formula of a Gaussian process, and truths that are recovered as often as promised."""

import math
import random

import pytest
import torch

from sase_attn.genotype import EDGES
from sase_attn.search import SearchSpace
from sase_attn.search.additive_model import ICCS, AdditiveModel
from sase_attn.search.balanced import balanced_blocks
from sase_attn.search.replay import world_at
from sase_attn.search.trained import Training
from sase_attn.training.data.order import seeded_generator

RELEASE = SearchSpace.get("release")


def table(world, count=28, seeds=5):
    blocks = balanced_blocks(world.space)
    genotypes = [genotype for _ in range(count // 7) for genotype in next(blocks)]
    return [world.train(Training(genotype, seed)) for genotype in genotypes for seed in range(seeds)]


def test_means_are_those_of_the_formula(monkeypatch):
    """With one point of the grid: k(x, rows)·(K + I/ratio)⁻¹·(rows − generalised means of seeds)."""
    rows = table(world_at(RELEASE, 0.5, key=1), 14, 2)[:-3]
    monkeypatch.setattr("sase_attn.search.additive_model.ICCS", (0.4,))
    model = AdditiveModel(RELEASE, rows, shares=(0.25,))

    def kernel(first, second):
        same = sum(getattr(first, edge) == getattr(second, edge) for edge in EDGES) / len(EDGES)
        return 0.25 * same + 0.75 * (same == 1)

    genotypes = [row.training.genotype for row in rows]
    covariance = torch.tensor([[kernel(a, b) for b in genotypes] for a in genotypes], dtype=torch.float64)
    covariance += 0.6 / 0.4 * torch.eye(len(rows))
    seeds = torch.tensor([[float(row.training.seed == seed) for seed in (0, 1)] for row in rows], dtype=torch.float64)
    top1 = torch.tensor([row.top1 for row in rows], dtype=torch.float64)
    inverse = torch.linalg.inv(covariance)
    means = torch.linalg.solve(seeds.T @ inverse @ seeds, seeds.T @ inverse @ top1)
    weights = inverse @ (top1 - seeds @ means)
    for genotype in (genotypes[0], RELEASE.random(5)):
        row = torch.tensor([kernel(genotype, other) for other in genotypes], dtype=torch.float64)
        assert model.mean(genotype) == pytest.approx(float(row @ weights), abs=1e-9)


def test_the_order_of_rows_does_not_matter():
    rows = table(world_at(RELEASE, 0.5), 7, 3)
    mixed = rows[:]
    random.Random(0).shuffle(mixed)
    assert AdditiveModel(RELEASE, mixed).effects == AdditiveModel(RELEASE, rows).effects


def test_the_best_of_the_whole_space_are_found():
    small = SearchSpace({edge: ops[:3] for edge, ops in RELEASE.ops.items()})
    model = AdditiveModel(small, table(world_at(small, 0.8), 21, 1))
    ranked = sorted(map(model.mean, small), reverse=True)
    found = model.best(40)
    assert [model.mean(genotype) for genotype in found] == pytest.approx(ranked[:40])
    assert len(set(found)) == 40 and len(model.best(10**6)) == small.size


def test_nothing_is_found_where_nothing_can_be():
    assert AdditiveModel(RELEASE, []).best(1) and AdditiveModel(RELEASE, []).mean(RELEASE.random(0)) == 0
    alone = AdditiveModel(RELEASE, table(world_at(RELEASE, 0.5))[:3])  # one genotype with three seeds
    assert alone.mean(RELEASE.random(0)) == pytest.approx(0)
    with pytest.raises(ValueError, match="got 0 rows"):
        AdditiveModel(RELEASE, []).draw(seeded_generator(0))


def additive_part(effects, columns):
    return sum(values[at] for values, at in zip(effects, columns, strict=True))


def test_draws_cover_the_truth():
    """A known truth: nine in ten of the central intervals hold it, for variances and for the value of a genotype."""
    inside = {"residual": 0, "genotype": 0, "unseen": 0}
    worlds, draws = 40, 20
    for key in range(worlds):
        icc = ICCS[1 + key % 12]  # as the grid expects them
        world = world_at(RELEASE, icc, key=key, share=(key % 5) / 4)
        model = AdditiveModel(RELEASE, table(world, 14, 4))
        found = [model.draw(seeded_generator(key, number)) for number in range(draws)]
        seen, unseen = model.columns[0], model.columns[7]
        apart = (*seen[:3], *unseen[3:])

        other = model.columns[3]
        pairs = {
            "residual": ([drawn.residual_std for drawn in found], world.residual_std),
            "genotype": (
                [
                    additive_part(drawn.effects, seen)
                    + drawn.own[seen]
                    - additive_part(drawn.effects, unseen)
                    - drawn.own[unseen]
                    for drawn in found
                ],
                world.value(RELEASE.genotype(seen)) - world.value(RELEASE.genotype(unseen)),
            ),
            "unseen": (
                [additive_part(drawn.effects, apart) - additive_part(drawn.effects, other) for drawn in found],
                additive_part(world.effects, apart) - additive_part(world.effects, other),
            ),
        }
        for what, (values, truth) in pairs.items():
            inside[what] += min(values) <= truth <= max(values)  # 1/21 beyond each
    spread = 3 * math.sqrt(0.9 * 0.1 / worlds)
    for what, count in inside.items():
        assert abs(count / worlds - 0.9) < spread, (what, inside)
