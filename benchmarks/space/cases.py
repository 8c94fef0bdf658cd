"""`cases`: the trainings of the table, in their order."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from gain import attached, networks, recipe_of
from rows import Row, read_rows

from sase_attn.comparison.networks import PLAIN
from sase_attn.genotype import Genotype
from sase_attn.search.balanced import balanced_blocks
from sase_attn.search.space import SearchSpace
from sase_attn.training.recipes import Recipe

SPACE = SearchSpace.get("release")
SEEDS = 5
GENOTYPES = {240: 28, 960: 28, 3840: 10}
"""Number of genotypes by length of training. They are the first ones, so that all of the longest are in the others."""
CONTROLS = (PLAIN, "constant 1.25", "constant 1.5", "SASE, unit gain", "SE, unit gain")
"""Networks of `gain.py` that are trained as controls."""


@dataclass(frozen=True)
class Case:
    """A training of the table.

    Attributes:
        label: the genotype as a string, or the name of a control.
        block: the index of the genotype's block, from 0; None for a control.
        recipe: the recipe of the training.
    """

    label: str
    block: int | None
    recipe: Recipe


def study(steps: int) -> str:
    """The name of the study that has the rows of a length."""
    return f"space_{steps}"


def blocks(steps: int) -> list[list[Genotype]]:
    """The genotypes of a length in blocks, of which the last may be incomplete."""
    left, found = GENOTYPES[steps], []
    for block in islice(balanced_blocks(SPACE, seed=0), 4):
        found.append(block[:left])
        left -= len(found[-1])
    return [block for block in found if block]


def cases(steps: int, data: str, first_blocks: int | None = None) -> Iterator[Case]:
    """The trainings, block by block, with the controls after the first block; within each, seed by seed.

    If training is stopped, earlier blocks are therefore complete.

    Args:
        steps: the number of steps of a training, one of `GENOTYPES`.
        data: the name of the image folder.
        first_blocks: leave out later blocks.
    """
    controls = {label: networks()[label] for label in CONTROLS}
    groups: list[tuple[int | None, dict[str, dict[str, Any]]]] = [
        (number, {str(genotype): attached(str(genotype), gain="unit") for genotype in block})
        for number, block in enumerate(blocks(steps)[:first_blocks])
    ]
    for number, group in [*groups[:1], (None, controls), *groups[1:]]:
        for seed in range(SEEDS):
            for label, fields in group.items():
                yield Case(label, number, recipe_of(label, fields, seed, steps, data))


def slim(row: Row, case: Case) -> Row:
    """A row of `gain.py` as a row of the table, without recipe fields that have their default."""
    changed = {*Recipe().differences(case.recipe), "seed"}
    return {**row, "block": case.block, "recipe": {name: row["recipe"][name] for name in sorted(changed)}}


def trained_before(case: Case, steps: int) -> Row | None:
    """The row of `gain.py` with the same recipe, if any, so that a control need not be trained again."""
    for row in read_rows(f"gain_{steps}") if case.block is None else []:
        if row["label"] == case.label and Recipe(**row["recipe"]) == case.recipe:
            return {**slim(row, case), "from": f"gain_{steps}"}
    return None
