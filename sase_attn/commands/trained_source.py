"""Helpers for commands that use a trained network: its recipe, and a hint for names that are not registered."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sase_attn.commands.flags import given_flags
from sase_attn.training.loading import recipe_of
from sase_attn.training.recipes import Recipe
from sase_attn.weights.files import is_named_like_weights


def recipe_for(args: argparse.Namespace) -> Recipe:
    """The recorded recipe of the run that made `args.source`, or the default one, changed by the flags.

    Raises:
        FileNotFoundError: the source is named like a file of weights, but does not exist.
        ValueError: a model is given although the source records it, or the record is damaged.
    """
    given = given_flags(args, Recipe)
    if not Path(args.source).exists() and is_named_like_weights(args.source):
        raise FileNotFoundError(f"no such file or folder: {args.source}")
    if given.keys() & {"model", "model_kwargs"} and not Path(args.source).is_file():
        raise ValueError(
            f"{args.source} says itself which network it is: --model and --model-kwargs are for weights files"
        )
    return (recipe_of(args.source) or Recipe()).override(**given)


@contextmanager
def naming_imports(recorded: tuple[str, ...]) -> Iterator[None]:
    """A context that adds the imports of the run to errors about unknown names. Nothing is imported, to be safe."""
    try:
        yield
    except ValueError as error:
        if not recorded:
            raise
        flags = " ".join(f"--import {name}" for name in recorded)
        raise type(error)(f"{error}; it was trained with {flags}: give that too if you trust it") from None
