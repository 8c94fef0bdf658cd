"""Helpers for argparse that the commands of `sase-attn` share, such as `add_command` and argument types."""

import argparse
import ast
from collections.abc import Callable
from typing import Any

from sase_attn.genotype import Genotype
from sase_attn.imports import absolute


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
    """Add a subcommand that calls `run(args)`; `args.error` is its parser's."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    parser.set_defaults(run=run, error=parser.error)
    parser.add_argument(
        "--import", dest="imports", type=absolute, action="append", default=argparse.SUPPRESS, metavar="MODULE",
        help="import a module, or a .py file, that registers operations, attentions or models; may be repeated",
    )  # fmt: skip
    return parser


def key_value(text: str) -> tuple[str, Any]:
    """Parse `key=value`; the value is a Python literal or else a string. Raises argparse's error for other forms."""
    key, separator, value = text.partition("=")
    if not separator or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"expected key=value, got {text!r}")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return key, value


def read_genotype(text: str) -> Genotype:
    """Parse a genotype: a published name, an inline string, the authors' notation, or a `.json` file.

    Raises:
        UnknownNameError, ValueError: it is none of these. OSError: the file cannot be read.
    """
    return Genotype.load(text) if text.endswith(".json") else Genotype.parse(text)


def whole(low: int | None, high: int) -> Callable[[str], int]:
    """An argparse type for whole numbers from `low` to `high`; without a lower limit if `low` is None."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a whole number, got {text[:40]!r}") from None
        if low is not None and value < low:
            raise argparse.ArgumentTypeError(f"expected at least {low}, got {value}")
        if value > high:
            raise argparse.ArgumentTypeError(f"expected at most {high:,}, got {text[:40]}")
        return value

    return read
