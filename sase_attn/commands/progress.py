"""`progress`: a line on the terminal that counts finished items."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def progress(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Yield the items. If stderr is a terminal, a line there counts them, and is erased at the end."""
    if not sys.stderr.isatty():
        yield from items
        return
    try:
        print(f"{label}: 0 of {total}", end="", file=sys.stderr, flush=True)
        for done, item in enumerate(items, 1):
            print(f"\r{label}: {done} of {total}", end="", file=sys.stderr, flush=True)
            yield item
    finally:
        print("\r\033[K", end="", file=sys.stderr, flush=True)  # erases the line
