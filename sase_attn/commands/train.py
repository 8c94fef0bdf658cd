"""`sase-attn train` and `sase-attn evaluate`: flags from the fields of a recipe, one call, what people want to know."""

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sase_attn.commands.arguments import add_command
from sase_attn.commands.flags import add_flags, given_flags, summary
from sase_attn.training.checkpoint import load_run
from sase_attn.training.data.normalise import normalise_as_trained
from sase_attn.training.distributed import ranks
from sase_attn.training.evaluate import evaluate
from sase_attn.training.loading import load_network, recipe_of
from sase_attn.training.recipes import RECIPES, Recipe
from sase_attn.training.run import open_recipe_data, train

_DATA_FIELDS = ("data", "size", "batch_size", "workers", "on_broken")


def add_parsers(commands: Any) -> None:
    """Add `train` and `evaluate` to the subparsers of the command `sase-attn`."""
    sub = add_command(commands, "train", _train, "Train a network by a recipe; stop it and resume it at any time.")
    sub.epilog = "torchrun --nproc-per-node 2 -m sase_attn train … trains on two devices, with the same global batch."
    sub.add_argument(
        "--recipe", metavar="NAME", help=f"{', '.join(RECIPES)}, or a .json file (default: embedded); flags change it"
    )
    sub.add_argument("--output", type=Path, metavar="FOLDER", help="default: runs/<recipe>-<model>-seed<seed>")
    sub.add_argument("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    sub.add_argument("--device", help="cpu, cuda or cuda:N (default: CUDA where there is a device)")
    sub.add_argument("--show", action="store_true", help="print the recipe as JSON and train nothing")
    add_flags(sub.add_argument_group("fields of the recipe"), Recipe)

    sub = add_command(commands, "evaluate", _evaluate, "Accuracy of a trained network on the test images of a set.")
    sub.add_argument("source", metavar="SOURCE", help="a run's folder, a saved model's, a weights file, or timm's name")
    sub.add_argument("--device", help="cpu, cuda or cuda:N (default: CUDA where there is a device)")
    sub.add_argument("--json", action="store_true", help="print JSON")
    text = "where the run's own recipe is recorded, it is the default; model and arguments count for weights files"
    add_flags(sub.add_argument_group("data and model", text), Recipe, ["model", "model_kwargs", *_DATA_FIELDS])


def _train(args: argparse.Namespace) -> None:
    flags = given_flags(args, Recipe)
    name = args.recipe or "embedded"
    resumed = args.resume and args.recipe is None and args.output is not None
    recipe = (load_run(args.output).settings if resumed else Recipe.get(name)).override(**flags)
    if args.show:
        print(recipe.to_json())
        return
    words = (Path(name).stem if name.endswith(".json") else name, recipe.model, f"seed{recipe.seed}")
    output = args.output or Path("runs") / re.sub(r"[^\w.-]+", "-", "-".join(words))
    with ranks(args.device) as group:
        echo = group.on_main(print)
        echo(summary(recipe, f"recipe of {output}" if resumed else f"recipe {name}"))
        result = train(recipe, output, resume=args.resume, device=args.device, echo=_flushed(echo))
        echo(f"top-1 {result.top1:.2f} %, top-5 {result.top5:.2f} % of {result.count} test images (the last epoch's)")
        echo(f"after {result.seconds:.0f} s of training and evaluation; best epoch {result.best_epoch + 1}: "
             f"{result.best_top1:.2f} %")  # fmt: skip
        echo(f"files: {output} (model, result.json, log.jsonl, best.safetensors, checkpoint.pt, recipe.json)")
        if (output / "model").is_dir():
            echo("load it with")
            echo(result.load_line)


def _evaluate(args: argparse.Namespace) -> None:
    recipe = (recipe_of(args.source) or Recipe()).override(**given_flags(args, Recipe))
    with ranks(args.device) as group:
        train_batches, test_batches, info = open_recipe_data(recipe, group)
        model, known = load_network(args.source, recipe, num_classes=len(info.classes), in_chans=info.channels)
        if known:
            _, test_batches, _ = normalise_as_trained(model, (train_batches, test_batches), info)
        metrics = evaluate(model.to(group.device), test_batches.epoch(0), group)
        if not group.is_main:
            return
        if args.json:
            print(json.dumps({"source": args.source, "data": info.name, **asdict(metrics)}, indent=2))
            return
        print(f"{args.source} on {info.name}: top-1 {metrics.top1:.2f} %, top-5 {metrics.top5:.2f} %, "
              f"loss {metrics.loss:.4f}, {metrics.count} test images")  # fmt: skip


def _flushed(echo: Callable[[str], object]) -> Callable[[str], object]:
    return (lambda line: print(line, flush=True)) if echo is print else echo
