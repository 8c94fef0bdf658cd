"""`sase-attn evaluate`: the accuracy of a trained network on test images, and its confusion matrix."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sase_attn.commands.arguments import add_command
from sase_attn.commands.flags import add_flags
from sase_attn.commands.trained_source import naming_imports, recipe_for
from sase_attn.files import json_text
from sase_attn.plot.confusion import draw_confusion
from sase_attn.plot.figure import figure_path
from sase_attn.training.confusion import Confusion
from sase_attn.training.data import DataConfig
from sase_attn.training.data.evaluation_images import find_evaluation_images
from sase_attn.training.data.normalise import normalise_as_trained
from sase_attn.training.distributed import ranks
from sase_attn.training.evaluate import evaluate
from sase_attn.training.loading import load_network
from sase_attn.training.recipes import Recipe

_FIELDS = ["model", "model_kwargs", "data", "size", "batch_size", "workers", "on_broken"]
_HELPS = {"size": "height and width of the images (default: the network's own for a folder, the set's own for a set)"}


def add_parser(commands: Any) -> None:
    """Add `evaluate` to the subparsers of `sase-attn`."""
    sub = add_command(commands, "evaluate", run, "Accuracy of a trained network on test images, class by class.")
    sub.add_argument("source", metavar="SOURCE", help="a run's folder, a saved model's, a weights file, or timm's name")
    sub.add_argument("--device", help="cpu, cuda or cuda:N (default: CUDA where there is a device)")
    sub.add_argument("--per-class", action="store_true", help="also print the accuracy on each class, the worst first")
    sub.add_argument(
        "--confusion", type=Path, metavar="FILE", help="draw which class is taken for which: .png, .svg or .pdf"
    )
    sub.add_argument("--json", action="store_true", help="print JSON; it always holds each class and its confusions")
    text = (
        "--data is a set's name, or a folder with val/<class>/* or <class>/*; where the run's own recipe is recorded, "
        "it is the default; model and arguments count for weights files"
    )
    add_flags(sub.add_argument_group("data and model", text), Recipe, _FIELDS, _HELPS)


def run(args: argparse.Namespace) -> None:
    """Load the network, evaluate it, and print the accuracy."""
    recipe = recipe_for(args)
    if args.confusion is not None:
        figure_path(args.confusion)
    recorded = () if hasattr(args, "imports") else recipe.imports
    with ranks(args.device) as group:
        images = find_evaluation_images(DataConfig.of(recipe), rank=group.rank, world_size=group.world_size)
        with naming_imports(recorded):
            network = load_network(args.source, recipe, classes=images.classes, in_chans=images.channels)
        model = network.model.to(group.device)
        batches, info = images.read(network.view)
        if network.is_normalised:
            batches, _, _ = normalise_as_trained(model, (batches, batches), info)
        known = info.classes if network.names is None else network.names
        counts = torch.zeros(len(known), len(known), dtype=torch.int64)
        metrics = evaluate(model, network.targets(batches.epoch(0)), group, confusion=counts)
    if not group.is_main:
        return
    places = torch.arange(len(known)) if network.places is None else network.places
    confusion = Confusion.of(counts, info.classes, known, places)
    if args.confusion is not None:
        draw_confusion(confusion.counts, confusion.classes, confusion.known, args.confusion)
    if args.json:
        matched = "index" if network.places is None else "name"
        values = {"source": args.source, "data": info.name, "classes_by": matched, **asdict(metrics)}
        print(json_text(values | confusion.to_dict()))
        return
    if network.places is None:
        print(f"classes matched by index: {args.source} does not name its own")
    elif network.names is not None and network.names != info.classes:
        count = len(network.names)
        print(f"classes matched by name: the data have {len(info.classes)} of the {count} that {args.source} knows")
    print(f"{args.source} on {info.name}: top-1 {metrics.top1:.2f} %, top-5 {metrics.top5:.2f} %, "
          f"loss {metrics.loss:.4f}, {metrics.count} test images")  # fmt: skip
    if args.per_class:
        print(confusion.table())
