"""The one wording for an unknown name: what was wanted, what came, the nearest known ones."""

from collections.abc import Iterable
from difflib import get_close_matches


class UnknownNameError(ValueError):
    """A name is not among the known ones; the message lists the nearest."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """The error to raise when `name` is no `kind`, for example `unknown_name("genotype", "sasse", genotypes)`."""
    known = list(known)
    nearest = get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"known: {', '.join(known)}"
    return UnknownNameError(f"unknown {kind} {name!r}; {hint}")
