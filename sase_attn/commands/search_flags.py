"""The flags of a search: a recipe, and the fields of its configuration."""

import argparse

from sase_attn.commands.flags import add_flags, given_flags
from sase_attn.search.config import SEARCHES, SearchConfig


def add_config_flags(parser: argparse.ArgumentParser, names: list[str] | None = None) -> None:
    """Add `--recipe` and a flag for each field, or for those named."""
    parser.add_argument(
        "--recipe", metavar="NAME", help=f"{', '.join(SEARCHES)}, or a .json file (default: quick); flags change it"
    )
    add_flags(parser.add_argument_group("fields of the configuration"), SearchConfig, names)


def config_from_flags(args: argparse.Namespace, start: SearchConfig) -> SearchConfig:
    """The configuration `start` with the flags.

    Arguments of one model are not those of another. The first epochs, in which the weights alone are trained, leave one
    for alpha in a search of fewer epochs.
    """
    flags = given_flags(args, SearchConfig)
    if flags.get("epochs", start.epochs) < start.epochs:
        flags = {"warmup_epochs": min(start.warmup_epochs, max(0, flags["epochs"] - 1))} | flags
    if "model" in flags and flags["model"] != start.model:
        flags = {"model_kwargs": {}} | flags
    return start.override(**flags)
