"""Pairwise testing: a few rows of independent options in which every two values of different options occur together.

A full product of options tests each pair of values many times. Most errors need only one value, or two together.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import combinations, product
from typing import Any


def pairwise(*options: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Rows with one value of each option, the same at every call; each pair of values is in at least one row.

    Rows are added one at a time. Each starts with a pair that no row has yet, and gets from every further option the
    value with the most new pairs; among equals, the value that is rarest in the rows so far.
    """
    values = [list(option) for option in options]
    if len(values) < 2:
        return [tuple(row) for row in product(*values)]
    missing = {
        ((i, a), (j, b)): None  # a dict, because a set has no order
        for i, j in combinations(range(len(values)), 2)
        for a, b in product(range(len(values[i])), range(len(values[j])))
    }
    used: dict[tuple[int, int], int] = {}
    rows = []
    while missing:
        first, second = next(iter(missing))
        row = dict([first, second])
        for option in range(len(values)):
            if option not in row:
                row[option] = min(
                    range(len(values[option])),
                    key=lambda value, option=option, row=row: (
                        -sum(tuple(sorted([(option, value), other])) in missing for other in row.items()),
                        used.get((option, value), 0),
                    ),
                )
        for cell in row.items():
            used[cell] = used.get(cell, 0) + 1
        for pair in combinations(sorted(row.items()), 2):
            missing.pop(pair, None)
        rows.append(tuple(values[option][row[option]] for option in range(len(values))))
    return rows


def rows_of(first: Any, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows that begin with `first`, without it: the cases of one of several tests."""
    return [row[1:] for row in rows if row[0] == first]


@contextmanager
def case(*values: Any) -> Iterator[None]:
    """One of the cases that a test loops over; a failure within the context names it."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"case: {', '.join(map(str, values))}")
        raise
