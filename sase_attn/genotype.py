"""`Genotype`: which operation each of the six edges of a SASE block uses; published genotypes; random ones.

The block, with S squeezes and E excitations (SASE, arXiv 2411.08333):

    z   = S_channel_squeeze(x)
    A_c = E_channel_excite(z)                              the channel mask of the output
    M   = E_channel_gate(z)                                the inner mask
    m   = ReLU(BN(1×1 conv of [S_spatial_squeeze_gated(M·x), S_spatial_squeeze_input(x)]))
    A_s = E_spatial_excite(m)                              the spatial mask of the output
    y   = x·(A_c + A_s)/2, plus x if `residual`
"""

import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from sase_attn.errors import unknown_name
from sase_attn.files import parse_json, read_json, write_atomically
from sase_attn.ops import RELEASE_OPS, get_op
from sase_attn.release_notation import fields_from_pairs, fields_from_text, pairs_from_fields

EDGES: dict[str, str] = {
    "channel_squeeze": "channel_squeeze",
    "channel_excite": "channel_excite",
    "channel_gate": "channel_excite",
    "spatial_squeeze_input": "spatial_squeeze",
    "spatial_squeeze_gated": "spatial_squeeze",
    "spatial_excite": "spatial_excite",
}
"""The operation set that each edge chooses from."""


@dataclass(frozen=True)
class Genotype:
    """One operation name per edge (see `EDGES` and `sase_attn.list_ops`), and whether the block adds its input.

    `str(genotype)` is an inline string, `edge:op,…,residual:true`, that `Genotype.parse` reads back and that models
    accept as their `genotype` argument.

    Raises:
        UnknownNameError: an operation is not in its edge's set; the nearest names are given.
        TypeError: an operation is no string, or `residual` no bool.
    """

    channel_squeeze: str
    channel_excite: str
    channel_gate: str
    spatial_squeeze_input: str
    spatial_squeeze_gated: str
    spatial_excite: str
    residual: bool = True

    def __post_init__(self) -> None:
        for edge, op_set in EDGES.items():
            name = getattr(self, edge)
            if not isinstance(name, str):
                raise TypeError(f"{edge} must be the name of an operation, got {name!r}")
            get_op(op_set, name)
        if not isinstance(self.residual, bool):
            raise TypeError(f"residual must be True or False, got {self.residual!r}")

    def __str__(self) -> str:
        return ",".join(
            [*(f"{edge}:{getattr(self, edge)}" for edge in EDGES), f"residual:{str(self.residual).lower()}"]
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a published name ("sase"), or an inline string with parts in any order; `residual` is true by default.

        The authors' notation, `[('GAP+GMP', 0), …]`, is read too.

        Raises:
            UnknownNameError: no such published genotype, edge or operation; the nearest names are given.
            ValueError: the string is malformed, names an edge twice or lacks one.
        """
        if text.lstrip().startswith(("[", "(")):
            return cls.from_dict(fields_from_text(text.strip()))
        if ":" not in text:
            if text not in _PUBLISHED:
                raise unknown_name("genotype", text, _PUBLISHED)
            return cls.from_dict(_PUBLISHED[text])
        fields: dict[str, str | bool] = {}
        for part in text.split(","):
            key, separator, value = (piece.strip() for piece in part.partition(":"))
            if not separator or not value:
                raise ValueError(f"a genotype string is 'edge:op,…', got the part {part!r}")
            if key in fields:
                raise ValueError(f"the genotype string names {key!r} twice: {text!r}")
            if key == "residual":
                if value not in ("true", "false"):
                    raise ValueError(f"residual must be true or false, got {value!r}")
                fields[key] = value == "true"
            else:
                fields[key] = value
        return cls.from_dict(fields)

    @classmethod
    def from_dict(cls, fields: Mapping[str, str | bool]) -> Self:
        """Build from a mapping of edges to names, as read from JSON; an error names a wrong or a missing key."""
        for key in fields:
            if key not in (*EDGES, "residual"):
                raise unknown_name("edge", key, (*EDGES, "residual"))
        missing = [edge for edge in EDGES if edge not in fields]
        if missing:
            raise ValueError(f"a genotype needs an operation for {', '.join(missing)}")
        return cls(**fields)  # type: ignore[arg-type]

    def to_release(self) -> list[tuple[str, int]]:
        """The authors' notation, `[('GAP+GMP', 0), …]`, which `parse` reads back from its text.

        Raises:
            ValueError: an operation is not of the release, or the block does not add its input.
        """
        if not self.residual:
            raise ValueError("the release's block adds its input, a genotype without residual has no form there")
        return pairs_from_fields(asdict(self))

    def to_json(self) -> str:
        """A JSON object of the seven fields."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. Raises ValueError for anything else."""
        return cls._from_object(parse_json(text))

    @classmethod
    def _from_object(cls, fields: object) -> Self:
        if isinstance(fields, list) and fields:
            return cls.from_dict(fields_from_pairs(fields))
        if not isinstance(fields, dict):
            raise ValueError(f"a genotype is a JSON object, got {type(fields).__name__}")
        try:
            return cls.from_dict(fields)
        except TypeError as error:
            raise ValueError(str(error)) from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON to `path`, atomically."""
        write_atomically(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a JSON file that `save` wrote. Raises ValueError, naming the file, if it holds no genotype."""
        return read_json(path, cls._from_object)

    @classmethod
    def random(
        cls, seed: int, space: str | Mapping[str, Sequence[str]] = "release", *, residual: bool | None = None
    ) -> Self:
        """A genotype drawn uniformly from `space`, the same for the same seed.

        Args:
            seed: seed of the draw; the global random generators are not used.
            space: "release" (7⁶ genotypes), "paper", or the names that each edge may take.
            residual: whether the block adds its input. The default follows the named space; it is True for a space of
                your own.

        Raises:
            UnknownNameError: no such space, edge or operation; the nearest names are given.
            ValueError: the space has no operation for an edge.
        """
        if isinstance(space, str):
            if space not in SPACES:
                raise unknown_name("space", space, SPACES)
            residual = space != "paper" if residual is None else residual
            space = SPACES[space]
        for key in space:
            if key not in EDGES:
                raise unknown_name("edge", key, EDGES)
        if missing := [edge for edge in EDGES if not space.get(edge)]:
            raise ValueError(f"the space has no operation for {', '.join(missing)}")
        generator = random.Random(seed)
        fields: dict[str, str | bool] = {edge: generator.choice(space[edge]) for edge in EDGES}
        return cls.from_dict(fields | {"residual": residual is not False})


_TEXT_READINGS = {
    "channel_squeeze": {"l4": "l4_mean", "gap_skew": "gap_skewness"},
    "spatial_squeeze": {"l4": "l4_mean", "gap_skew": "gap_skewness", "l2norm": "l2norm_channel"},
    "channel_excite": {"fc": "fc_sigmoid"},
    "spatial_excite": {},
}

SPACES: dict[str, dict[str, tuple[str, ...]]] = {
    "release": {edge: RELEASE_OPS[op_set] for edge, op_set in EDGES.items()},
    "paper": {
        edge: tuple(_TEXT_READINGS[op_set].get(op, op) for op in RELEASE_OPS[op_set]) for edge, op_set in EDGES.items()
    },
}
"""The operations of each edge: as released, and as the paper's text describes them (where no residual is added)."""

_PUBLISHED: dict[str, dict[str, str | bool]] = {
    "sase": dict(
        channel_squeeze="gap_gmp",
        channel_excite="fc",
        channel_gate="affine",
        spatial_squeeze_input="gap",
        spatial_squeeze_gated="l4",
        spatial_excite="conv2d_k3_x2",
        residual=True,
    ),
    "sase_paper": dict(
        channel_squeeze="gap_gmp",
        channel_excite="fc_sigmoid",
        channel_gate="affine",
        spatial_squeeze_input="gap",
        spatial_squeeze_gated="l4_mean",
        spatial_excite="conv2d_k3_x2",
        residual=False,
    ),
}

genotypes: dict[str, Genotype] = {name: Genotype.parse(name) for name in _PUBLISHED}
"""The searched genotype, as released ("sase") and as the paper's text describes it ("sase_paper")."""
