"""Error messages: for an unknown name with the nearest known ones, and for any exception in one line."""

from collections.abc import Iterable
from difflib import get_close_matches

MOST_SHOWN = 40
"""The most known names that a message lists if none resembles the unknown one; of more, it lists `FEW_SHOWN`."""

FEW_SHOWN = 8


class UnknownNameError(ValueError):
    """A name is not among the known ones; the message lists the nearest."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """The error to raise when `name` is no `kind`, for example `unknown_name("genotype", "sasse", genotypes)`."""
    known = list(dict.fromkeys(known))
    nearest = get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"known: {_listed(known)}"
    return UnknownNameError(f"unknown {kind} {name!r}; {hint}")


def _listed(names: list[str]) -> str:
    """All names if there are few; otherwise the first ones, and how many more there are."""
    shown = names if len(names) <= MOST_SHOWN else names[:FEW_SHOWN]
    more = f" and {len(names) - len(shown):,} more" if len(shown) < len(names) else ""
    return ", ".join(shown) + more


def in_words(error: BaseException) -> str:
    """The message of an exception in one line, with its class where the message alone is no sentence."""
    text = str(error)
    if "Original Traceback" in text:  # from a worker process of a DataLoader
        text = text.strip().splitlines()[-1]
    words = " ".join(text.split())
    if words and not isinstance(error, LookupError | TypeError | AttributeError | ArithmeticError):
        return words
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
