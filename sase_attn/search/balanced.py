"""Balanced genotypes: Latin-hypercube blocks, in which every operation of an edge occurs equally often."""

from collections.abc import Iterator

import torch

from sase_attn.genotype import EDGES, Genotype
from sase_attn.search.space import SearchSpace
from sase_attn.training.data.order import seeded_generator


def block_size(space: SearchSpace) -> int:
    """Genotypes of a block: the operations of the edge that has most of them."""
    return max(map(len, space.ops.values()))


def balanced_blocks(space: SearchSpace, *, seed: int = 0) -> Iterator[list[Genotype]]:
    """Blocks of genotypes without end; in a block each operation of an edge occurs equally often, or within one.

    A genotype occurs once over all blocks, until none is left; then all may occur again.

    Args:
        space: of the genotypes.
        seed: fixes all blocks. The first ones are the same however many are taken.
    """
    generator, size = seeded_generator(seed), block_size(space)
    seen: set[Genotype] = set()
    while True:
        block = _block(space, size, generator)
        for _ in range(100):
            if len(set(block)) == size and not seen.intersection(block):
                break
            block = _block(space, size, generator)
        else:  # few are left
            seen.clear()
        seen.update(block)
        yield block


def _block(space: SearchSpace, size: int, generator: torch.Generator) -> list[Genotype]:
    """A genotype a row; the columns of an edge are a permutation of its operations, repeated to the size."""
    drawn = []
    for edge in EDGES:
        count = len(space.ops[edge])
        rounds = [torch.randperm(count, generator=generator) for _ in range(-(-size // count))]
        drawn.append(torch.cat(rounds)[:size][torch.randperm(size, generator=generator)])
    return [space.genotype(columns) for columns in torch.stack(drawn, 1).tolist()]
