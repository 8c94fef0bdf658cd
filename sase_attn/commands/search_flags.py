"""The flags of a search: a recipe, and the fields of its configuration."""

import argparse

from sase_attn.commands.flags import add_flags, given_flags
from sase_attn.search.config import SEARCHES, SearchConfig


def add_config_flags(parser: argparse.ArgumentParser, names: list[str] | None = None) -> None:
    """Add `--recipe` and a flag for each field, or for the named ones."""
    parser.add_argument(
        "--recipe", metavar="NAME", help=f"{', '.join(SEARCHES)}, or a .json file (default: quick); flags change it"
    )
    add_flags(parser.add_argument_group("fields of the configuration"), SearchConfig, names)


def config_from_flags(args: argparse.Namespace, start: SearchConfig) -> SearchConfig:
    """The configuration `start`, changed by the flags.

    With another model its arguments are dropped. With fewer epochs the warm-up, in which only the weights are trained,
    is shortened so that at least one epoch trains alpha.
    """
    flags = given_flags(args, SearchConfig)
    if flags.get("epochs", start.epochs) < start.epochs:
        flags = {"warmup_epochs": min(start.warmup_epochs, max(0, flags["epochs"] - 1))} | flags
    if "model" in flags and flags["model"] != start.model:
        flags = {"model_kwargs": {}} | flags
    return start.override(**flags)
