"""`sase-attn predict`: the classes that a trained network predicts for images, as a table, CSV, JSON or a picture."""

import argparse
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from sase_attn.commands.arguments import add_command, whole
from sase_attn.commands.flags import add_flags
from sase_attn.commands.prediction_output import as_csv, as_dict, as_table, folder_confusion
from sase_attn.commands.trained_source import naming_imports, recipe_for
from sase_attn.files import json_text
from sase_attn.plot.confusion import draw_confusion
from sase_attn.plot.figure import figure_path
from sase_attn.plot.predictions import Tile, draw_predictions
from sase_attn.settings import MANY
from sase_attn.training.data.normalise import Normalise
from sase_attn.training.data.open_folder import NORMALISATION
from sase_attn.training.data.reading import in_words, report_broken
from sase_attn.training.distributed import ranks
from sase_attn.training.imagenet_names import described
from sase_attn.training.loading import LoadedNetwork, load_network
from sase_attn.training.predict import image_paths, predict
from sase_attn.training.recipes import Recipe

DRAWN = 96  # largest number of images in the picture
CHANNELS = 3
_HELPS = {"size": "height and width of the images (default: the network's own)"}


def add_parser(commands: Any) -> None:
    """Add `predict` to the subparsers of `sase-attn`."""
    sub = add_command(commands, "predict", run, "The classes that a trained network sees in images of yours.")
    sub.add_argument("source", metavar="SOURCE", help="a run's folder, a saved model's, a weights file, or timm's name")
    sub.add_argument("images", nargs="+", metavar="IMAGES", help="image files, or folders with images at any depth")
    sub.add_argument(
        "--top", type=whole(1, MANY), default=3, metavar="K", help="classes an image (default: %(default)s)"
    )
    sub.add_argument("--grid", type=Path, metavar="FILE", help=f"draw the first {DRAWN} images: .png, .svg or .pdf")
    sub.add_argument("--per-class", action="store_true", help="also print each class's accuracy, by folders' names")
    sub.add_argument(
        "--confusion", type=Path, metavar="FILE", help="draw which class is taken for which, by folders' names"
    )
    forms = sub.add_mutually_exclusive_group()
    forms.add_argument("--csv", action="store_true", help="print CSV, a line an image")
    forms.add_argument("--json", action="store_true", help="print JSON")
    sub.add_argument("--batch-size", type=whole(1, MANY), default=32, metavar="N", dest="at_once",
                     help="images at a time (default: %(default)s)")  # fmt: skip
    sub.add_argument("--device", help="cpu, cuda or cuda:N (default: CUDA where there is a device)")
    text = "model and arguments count for weights files"
    add_flags(sub.add_argument_group("network", text), Recipe, ["model", "model_kwargs", "size"], _HELPS)


def run(args: argparse.Namespace) -> None:
    """Load the network, predict, and print the result; unreadable images are listed, and counted in a warning."""
    recipe = recipe_for(args)
    for picture in (args.grid, args.confusion):
        if picture is not None:
            figure_path(picture)
    images = image_paths(args.images)
    recorded = () if hasattr(args, "imports") else recipe.imports
    with ranks(args.device) as group, naming_imports(recorded):
        network = load_network(args.source, recipe, classes=None, in_chans=CHANNELS)
        view = replace(network.view, size=recipe.size or network.view.size)
        if view.size is None:
            raise ValueError(f"{args.source} does not say at which size it sees images; give --size")
        found = predict(
            network.model.to(group.device),
            images,
            names := _names(network),
            view,
            _normalise(network, args.source),
            top=args.top,
            batch_size=args.at_once,
            keep=DRAWN if args.grid is not None else 0,
            compare_folders=network.names is not None,
        )
    if not group.is_main:
        return
    if not found.images:
        raise ValueError(f"none of {len(images)} images can be read: {in_words(found.broken)}")
    report_broken(found.broken, len(images), "skip", warn=True)
    if network.names is None:
        warnings.warn(f"{args.source} does not name its {len(names)} classes: numbers are shown", stacklevel=2)
    confusion = folder_confusion(found, names)
    if confusion is None and (args.confusion is not None or args.per_class):
        raise ValueError("--confusion and --per-class want images in folders named after classes, got none")
    if confusion is not None and args.confusion is not None:
        draw_confusion(confusion.counts, confusion.classes, confusion.known, args.confusion)
    words = dict(zip(names, described(names), strict=True))
    if args.grid is not None:
        tiles = [
            Tile(
                pixels,
                words[image.classes[0]],
                image.probabilities[0],
                words[image.folder_class] if image.folder_class is not None and image.is_wrong else None,
            )
            for pixels, image in zip(found.pixels, found.images, strict=False)
        ]
        draw_predictions(tiles, args.grid)
    if args.json:
        by_class = {} if confusion is None else confusion.to_dict()
        print(json_text(as_dict(found, args.source) | by_class))
    elif args.csv:
        print(as_csv(found))
    else:
        print(as_table(found, words))
        if confusion is not None and args.per_class:
            print(confusion.table())


def _names(network: LoadedNetwork) -> tuple[str, ...]:
    if network.names is not None:
        return network.names
    return tuple(str(place) for place in range(int(getattr(network.model, "num_classes", 0))))


def _normalise(network: LoadedNetwork, source: str) -> Normalise:
    """The normalisation of the network; if it is not known, the statistics that image folders are trained with."""
    cfg: dict[str, Any] = getattr(network.model, "pretrained_cfg", None) or {}
    if network.is_normalised and cfg.get("mean") and cfg.get("std"):
        return Normalise(tuple(cfg["mean"]), tuple(cfg["std"]))
    warnings.warn(
        f"{source} does not say how its images were normalised: ImageNet's statistics are taken", stacklevel=2
    )
    return Normalise(*NORMALISATION)
