"""`balanced_blocks`: random genotypes in Latin-hypercube blocks, which hold each operation of an edge equally often."""

from collections.abc import Iterator

import torch

from sase_attn.genotype import EDGES, Genotype
from sase_attn.search.space import SearchSpace
from sase_attn.training.data.order import seeded_generator


def block_size(space: SearchSpace) -> int:
    """The number of genotypes in a block: that of the operations of the edge with the most."""
    return max(map(len, space.ops.values()))


def balanced_blocks(space: SearchSpace, *, seed: int = 0) -> Iterator[list[Genotype]]:
    """An endless iterator over blocks of genotypes.

    Within a block, how often the operations of an edge occur differs by one at most. No genotype is repeated until the
    space has hardly any left; then all may occur again.

    Args:
        space: the space of the genotypes.
        seed: fixes all blocks. The first ones are the same however many are used.
    """
    generator, size = seeded_generator(seed), block_size(space)
    seen: set[Genotype] = set()
    while True:
        block = _block(space, size, generator)
        for _ in range(100):
            if len(set(block)) == size and not seen.intersection(block):
                break
            block = _block(space, size, generator)
        else:  # hardly any unused genotypes are left
            seen.clear()
        seen.update(block)
        yield block


def _block(space: SearchSpace, size: int, generator: torch.Generator) -> list[Genotype]:
    """One block: for each edge, its operations are repeated up to the size and shuffled."""
    drawn = []
    for edge in EDGES:
        count = len(space.ops[edge])
        rounds = [torch.randperm(count, generator=generator) for _ in range(-(-size // count))]
        drawn.append(torch.cat(rounds)[:size][torch.randperm(size, generator=generator)])
    return [space.genotype(columns) for columns in torch.stack(drawn, 1).tolist()]
