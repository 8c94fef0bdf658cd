"""Which trainings make the table, and in which order."""

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
"""How many genotypes are trained at a length: the first ones, so that those of the longest are among the others."""
CONTROLS = (PLAIN, "constant 1.25", "constant 1.5", "SASE, unit gain", "SE, unit gain")
"""Networks of `gain.py` beside them."""


@dataclass(frozen=True)
class Case:
    """A training of the table.

    Attributes:
        label: the genotype as a string, or the name of a control.
        block: of the genotype, from 0; None of a control.
        recipe: of the training.
    """

    label: str
    block: int | None
    recipe: Recipe


def study(steps: int) -> str:
    """The name of the rows of a length."""
    return f"space_{steps}"


def blocks(steps: int) -> list[list[Genotype]]:
    """The genotypes of a length; the last block may be a part of one."""
    left, found = GENOTYPES[steps], []
    for block in islice(balanced_blocks(SPACE, seed=0), 4):
        found.append(block[:left])
        left -= len(found[-1])
    return [block for block in found if block]


def cases(steps: int, data: str, first_blocks: int | None = None) -> Iterator[Case]:
    """Block after block, the controls behind the first one; in each all networks with one seed before the next seed.

    So what is stopped leaves whole blocks.

    Args:
        steps: of a training, one of `GENOTYPES`.
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
    """A row of `gain.py` as one of the table: what the recipe leaves at its default is not in it."""
    changed = {*Recipe().differences(case.recipe), "seed"}
    return {**row, "block": case.block, "recipe": {name: row["recipe"][name] for name in sorted(changed)}}


def trained_before(case: Case, steps: int) -> Row | None:
    """The row of `gain.py` with the same recipe: a control is not trained again."""
    for row in read_rows(f"gain_{steps}") if case.block is None else []:
        if row["label"] == case.label and Recipe(**row["recipe"]) == case.recipe:
            return {**slim(row, case), "from": f"gain_{steps}"}
    return None
