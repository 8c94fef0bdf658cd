"""Genotypes as the authors' release writes them: `[('GAP+GMP', 0), …]`, pairs of an operation and its edge."""

import ast
from collections.abc import Mapping

from sase_attn.errors import unknown_name

EDGES = (
    "channel_squeeze",
    "channel_excite",
    "channel_gate",
    "spatial_squeeze_gated",
    "spatial_squeeze_input",
    "spatial_excite",
)
"""The edges in the order of the release's numbers."""

_SQUEEZES = {
    "GAP": "gap",
    "2nd-order pooling": "gsop",
    "L2-norm": "l2norm",
    "p-norm": "l4",
    "GAP+GMP": "gap_gmp",
    "GAP+std": "gap_std",
    "SkewPooling": "gap_skew",
}
_CHANNEL_EXCITATIONS = {
    "2conv_1x1": "fc",
    "conv1D_3": "conv1d_k3",
    "conv1D_5": "conv1d_k5",
    "conv1D_7": "conv1d_k7",
    "2conv1D_3": "conv1d_k3_x2",
    "3conv1D_3": "conv1d_k3_x3",
    "affine": "affine",
}
_SPATIAL_EXCITATIONS = {
    "conv_3x3": "conv2d_k3",
    "conv_5x5": "conv2d_k5",
    "conv_7x7": "conv2d_k7",
    "2conv_3x3": "conv2d_k3_x2",
    "conv_3x1_1x3": "sep_k3",
    "conv_5x1_1x5": "sep_k5",
    "affine": "affine",
}
NAMES: dict[str, dict[str, str]] = {
    "channel_squeeze": _SQUEEZES,
    "channel_excite": _CHANNEL_EXCITATIONS,
    "channel_gate": _CHANNEL_EXCITATIONS,
    "spatial_squeeze_gated": _SQUEEZES,
    "spatial_squeeze_input": _SQUEEZES,
    "spatial_excite": _SPATIAL_EXCITATIONS,
}
"""For each edge, the release's names of operations and the names in this package."""


def fields_from_text(text: str) -> dict[str, str]:
    """This package's operation name for each edge, from the release's notation. Raises as `fields_from_pairs` does."""
    try:
        pairs = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"{_wanted()}, got {text[:200]!r}") from None
    return fields_from_pairs(pairs)


def fields_from_pairs(pairs: object) -> dict[str, str]:
    """This package's operation name for each edge, from the release's pairs in any order.

    Raises:
        ValueError: they are no pairs of a name and a number from 0 to 5, or two are for one edge.
        UnknownNameError: the release has no such operation for an edge.
    """
    fields: dict[str, str] = {}
    for pair in pairs if isinstance(pairs, list | tuple) else [pairs]:
        match pair:
            case [str(name), int(number)] if number in range(len(EDGES)):
                edge = EDGES[number]
            case _:
                raise ValueError(f"{_wanted()}, got {str(pair)[:200]!r}")
        if edge in fields:
            raise ValueError(f"{_wanted()}, got two for edge {number} ({edge})")
        if name not in NAMES[edge]:
            raise unknown_name(f"operation of the release for edge {number} ({edge})", name, NAMES[edge])
        fields[edge] = NAMES[edge][name]
    return fields


def pairs_from_fields(fields: Mapping[str, object]) -> list[tuple[str, int]]:
    """The release's pairs, in the order of its edges. Raises ValueError for an operation that the release has not."""
    pairs = []
    for number, edge in enumerate(EDGES):
        theirs = {ours: name for name, ours in NAMES[edge].items()}
        if fields[edge] not in theirs:
            raise ValueError(f"the release has no {fields[edge]} for {edge}; it has {', '.join(theirs)}")
        pairs.append((theirs[str(fields[edge])], number))
    return pairs


def _wanted() -> str:
    return "a genotype of the release is [('GAP+GMP', 0), …], an operation for each of the edges 0 to 5"
