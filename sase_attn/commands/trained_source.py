"""What commands that use a trained network share: the recipe that it is taken by, and what unknown names lack."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sase_attn.commands.flags import given_flags
from sase_attn.training.loading import recipe_of
from sase_attn.training.recipes import Recipe
from sase_attn.weights.files import is_named_like_weights


def recipe_for(args: argparse.Namespace) -> Recipe:
    """That of the run which made `args.source`, where it is recorded, changed by flags.

    Raises:
        FileNotFoundError: it is named like a file of weights that is not there.
        ValueError: a model is named, and the source says itself which it is; or its record is damaged.
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
    """Where a name is unknown, say what the run had imported: weights may be anybody's, so nothing is imported here."""
    try:
        yield
    except ValueError as error:
        if not recorded:
            raise
        flags = " ".join(f"--import {name}" for name in recorded)
        raise type(error)(f"{error}; it was trained with {flags}: give that too if you trust it") from None
