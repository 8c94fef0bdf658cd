"""`SearchSpace`: the candidate operations of each edge of a block."""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch

from sase_attn.errors import unknown_name
from sase_attn.files import parse_json
from sase_attn.genotype import EDGES, SPACES, Genotype
from sase_attn.ops import get_op
from sase_attn.records import record_from
from sase_attn.search.supernet.architecture import Architecture, columns_of
from sase_attn.search.supernet.block import SearchBlock


@dataclass(frozen=True)
class SearchSpace:
    """The ordered operations of each edge, which are the columns of alpha, and whether the block adds its input.

    `SearchSpace.get("release")` is the space of the authors' release, `SearchSpace.get("paper")` that of the text;
    both have 7⁶ = 117,649 genotypes.

    Args:
        ops: the names of the operations of each edge of `EDGES`, which may include ones that you registered.
        residual: whether the block adds its input, as the release does and the text does not.

    Raises:
        UnknownNameError: no such edge or operation; the nearest names are given.
        ValueError: an edge without operations, or one named twice.
    """

    ops: Mapping[str, tuple[str, ...]]
    residual: bool = True

    def __post_init__(self) -> None:
        for edge in self.ops:
            if edge not in EDGES:
                raise unknown_name("edge", edge, EDGES)
        for edge, op_set in EDGES.items():
            names = self.ops.get(edge, ())
            if isinstance(names, str) or not names:
                raise ValueError(f"wanted the names of one operation or more for {edge}, got {names!r}")
            for name in names:
                get_op(op_set, name)
            if len(set(names)) < len(names):
                raise ValueError(f"{edge} names an operation twice: {', '.join(names)}")
        object.__setattr__(self, "ops", {edge: tuple(self.ops[edge]) for edge in EDGES})

    @classmethod
    def get(cls, name: str) -> Self:
        """A published space, "release" or "paper". Raises UnknownNameError."""
        if name not in SPACES:
            raise unknown_name("space", name, SPACES)
        return cls(SPACES[name], residual=name != "paper")

    def without(self, *names: str) -> Self:
        """The space without these operations. "l2norm" names it on all edges, "channel_squeeze:l2norm" in one set.

        Raises:
            UnknownNameError: the space has no such operation. ValueError: an edge is left without any.
        """
        ops = dict(self.ops)
        for name in names:
            op_set, _, op = name.rpartition(":")
            edges = [edge for edge in EDGES if op_set in ("", EDGES[edge]) and op in self.ops[edge]]
            if not edges:
                raise unknown_name("operation of the space", name, sorted(self._names()))
            ops |= {edge: tuple(kept for kept in ops[edge] if kept != op) for edge in edges}
        return type(self)(ops, self.residual)

    def _names(self) -> set[str]:
        return {name for edge, ops in self.ops.items() for op in ops for name in (op, f"{EDGES[edge]}:{op}")}

    @property
    def size(self) -> int:
        """How many genotypes the space holds."""
        return math.prod(map(len, self.ops.values()))

    def __iter__(self) -> Iterator[Genotype]:
        for names in itertools.product(*self.ops.values()):
            yield Genotype(**dict(zip(self.ops, names, strict=True)), residual=self.residual)

    def random(self, seed: int) -> Genotype:
        """A genotype drawn uniformly, the same for the same seed."""
        return Genotype.random(seed, self.ops, residual=self.residual)

    def genotype(self, columns: Sequence[int]) -> Genotype:
        """The genotype for the given column of alpha of each edge."""
        names = {edge: self.ops[edge][column] for edge, column in zip(EDGES, columns, strict=True)}
        return Genotype(**names, residual=self.residual)

    def columns(self, genotype: Genotype) -> tuple[int, ...]:
        """The column of each edge that a genotype chooses. Raises ValueError if it is not in the space."""
        return columns_of(genotype, self.ops, self.residual)

    @property
    def block(self) -> Callable[..., SearchBlock]:
        """A maker of blocks that share one alpha: `attach(model, after=…, attn=space.block)`, or timm's `attn_layer`.

        Each use of the property starts a new alpha, so that two networks do not share theirs.
        """
        return _BlockMaker(self)

    def to_json(self) -> str:
        """The space as a JSON object with "ops" and "residual"."""
        return json.dumps({"ops": {edge: list(names) for edge, names in self.ops.items()}, "residual": self.residual})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. Raises ValueError for anything else."""
        return record_from(cls, parse_json(text))


class _BlockMaker:
    """Makes the blocks of one network; the first one owns the alpha."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._architecture: Architecture | None = None

    def __call__(
        self,
        channels: int,
        *,
        rd_ratio: float = 1 / 16,
        size: int | tuple[int, int] | None = None,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> SearchBlock:
        block = SearchBlock(
            channels, self._space, self._architecture, rd_ratio=rd_ratio, size=size, device=device, dtype=dtype
        )
        self._architecture = block.shared_architecture
        return block
