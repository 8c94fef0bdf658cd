"""`SpaceTable`: recorded trainings of balanced genotypes with paired seeds, on which search methods are tested."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from sase_attn.files import read_json
from sase_attn.genotype import Genotype
from sase_attn.quoting import enumerated
from sase_attn.records import record_from
from sase_attn.search.additive_model import AdditiveModel
from sase_attn.search.replay.world import World
from sase_attn.search.space import SearchSpace
from sase_attn.search.trained import Trained, Training
from sase_attn.training.data.order import seeded_generator

PATH = Path(__file__).with_name("space_table.json")


@dataclass(frozen=True)
class TableRow:
    """A training of the table.

    Attributes:
        network: a genotype as a string, or the name of a control such as "plain".
        seed: the seed of the initial weights and the order of images; trainings of one seed are paired.
        top1: accuracy in percent.
        loss: loss on the same images.
    """

    network: str
    seed: int
    top1: float
    loss: float


@dataclass(frozen=True)
class SpaceTable:
    """Recorded trainings of one length. The setting is that of `benchmarks/gain.py`: a small network on small images.

    Attributes:
        steps: the number of steps of each training.
        genotypes: trainings of genotypes of the space "release", at unit gain.
        controls: trainings of the network without attention, of constants and of published attentions.
    """

    steps: int
    genotypes: tuple[TableRow, ...]
    controls: tuple[TableRow, ...]

    @classmethod
    def load(cls, steps: int = 960, path: str | Path = PATH) -> Self:
        """The table that comes with the package, or the one in a file that `benchmarks/space` makes.

        Args:
            steps: the length of the trainings.
            path: the file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it has no trainings of this length, or it is damaged; the message names the file.
        """

        def parsed(values: object) -> dict[str, Self]:
            if not isinstance(values, dict):
                raise ValueError(f"wanted a JSON object, got {type(values).__name__}")
            if not values:
                raise ValueError("wanted a table for each length of the trainings, got none")
            return {name: record_from(cls, table) for name, table in values.items()}

        tables: dict[str, Self] = read_json(path, parsed)
        if str(steps) not in tables:
            raise ValueError(f"{path}: wanted trainings of {enumerated(tables, 'or')} steps, got {steps}")
        return tables[str(steps)]

    @property
    def space(self) -> SearchSpace:
        """The space of the genotypes."""
        return SearchSpace.get("release")

    @cached_property
    def trained(self) -> list[Trained]:
        """The trainings of genotypes, in the form that methods read."""
        return [Trained(Training(Genotype.parse(row.network), row.seed), row.top1, row.loss) for row in self.genotypes]

    @cached_property
    def model(self) -> AdditiveModel:
        """The additive model, fitted to the table."""
        return AdditiveModel(self.space, self.trained)

    def world(self, key: int) -> World:
        """A world consistent with the table: variances and effects are drawn from their distribution given its rows.

        The world simulates new trainings, so that no search is scored by the trainings of the table.

        Args:
            key: the key of the random numbers; the same key makes the same world.

        Raises:
            ValueError: the table has no two genotypes with a common seed.
        """
        drawn = self.model.draw(seeded_generator(key))
        return World(self.space, drawn.effects, drawn.own_std, drawn.residual_std, own=drawn.own, key=key)


def tables_json(tables: Sequence[SpaceTable]) -> str:
    """The text that `SpaceTable.load` reads, with one line for each row."""

    def listed(rows: Sequence[TableRow]) -> str:
        return "[\n" + ",\n".join(json.dumps(vars(row)) for row in rows) + "\n]"

    parts = [
        f'"{table.steps}": {{"steps": {table.steps}, "controls": {listed(table.controls)}, '
        f'"genotypes": {listed(table.genotypes)}}}'
        for table in tables
    ]
    return "{" + ",\n".join(parts) + "}\n"
