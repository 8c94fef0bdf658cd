"""`CompareOptions`: the options of the comparison at the end of a search, and their flags."""

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sase_attn.commands.arguments import whole
from sase_attn.files import write_atomically
from sase_attn.records import read_record
from sase_attn.settings import MANY

NAME = "compare.json"


@dataclass(frozen=True)
class CompareOptions:
    """The options of a comparison: the number of random genotypes, and of seeds and epochs of the trainings.

    `quick` leaves out the published genotypes.
    """

    quick: bool
    random: int
    seeds: int
    epochs: int

    def save(self, folder: Path) -> None:
        """Write `compare.json` to the folder of the search, for a command that resumes it."""
        write_atomically(folder / NAME, self.files[NAME])

    @property
    def files(self) -> dict[str, str]:
        """The text of `compare.json` by its name, for a search that writes it when it starts."""
        return {NAME: json.dumps(asdict(self), indent=2) + "\n"}


_QUICK = CompareOptions(quick=True, random=1, seeds=2, epochs=4)  # eight trainings, which take minutes
_FULL = CompareOptions(quick=False, random=2, seeds=5, epochs=10)


def add_comparison_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the comparison to a parser."""
    group = parser.add_argument_group("comparison at the end")
    group.add_argument(
        "--compare", action=argparse.BooleanOptionalAction, default=True, help="retrain the found block beside others"
    )
    group.add_argument("--compare-random", type=whole(0, 10_000), metavar="N", help="random genotypes among the others")
    group.add_argument("--compare-seeds", type=whole(1, 10_000), metavar="N", help="trainings of each network")
    group.add_argument("--compare-epochs", type=whole(1, MANY), metavar="N", help="epochs of each training")


def holds_options(args: argparse.Namespace) -> bool:
    """Whether a resumed search has recorded its options."""
    return args.resume is not None and (args.resume / NAME).is_file()


def compare_options(args: argparse.Namespace, folder: Path, *, quick: bool) -> CompareOptions:
    """The options by the flags, else those that the search was started with, else those of the recipe."""
    options = read_record(folder / NAME, CompareOptions) if holds_options(args) else _QUICK if quick else _FULL
    for key in ("random", "seeds", "epochs"):
        value = getattr(args, f"compare_{key}")
        if value is not None:
            options = replace(options, **{key: value})
    return options
