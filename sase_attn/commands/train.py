"""`sase-attn train`: train a network by a recipe, whose fields are flags."""

import argparse
import re
from functools import partial
from pathlib import Path
from typing import Any

from sase_attn.commands.arguments import add_command
from sase_attn.commands.flags import add_flags, given_flags, summary
from sase_attn.training.checkpoint import load_run
from sase_attn.training.distributed import ranks
from sase_attn.training.recipes import RECIPES, Recipe
from sase_attn.training.run import train


def add_parser(commands: Any) -> None:
    """Add `train` to the subparsers of `sase-attn`."""
    sub = add_command(commands, "train", run, "Train a network by a recipe; stop it and resume it at any time.")
    sub.epilog = "torchrun --nproc-per-node 2 -m sase_attn train … trains on two devices, with the same global batch."
    sub.add_argument(
        "--recipe", metavar="NAME", help=f"{', '.join(RECIPES)}, or a .json file (default: embedded); flags change it"
    )
    sub.add_argument("--output", type=Path, metavar="FOLDER", help="default: runs/<recipe>-<model>-seed<seed>")
    sub.add_argument("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    sub.add_argument("--device", help="cpu, cuda or cuda:N (default: CUDA where there is a device)")
    sub.add_argument("--show", action="store_true", help="print the recipe as JSON and train nothing")
    add_flags(sub.add_argument_group("fields of the recipe"), Recipe)


def run(args: argparse.Namespace) -> None:
    """Train, and print the result and the line that loads the network."""
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
        echo = group.on_main(partial(print, flush=True))
        echo(summary(recipe, f"recipe of {output}" if resumed else f"recipe {name}"))
        result = train(recipe, output, resume=args.resume, device=args.device, echo=echo)
        echo(f"top-1 {result.top1:.2f} %, top-5 {result.top5:.2f} % of {result.count} test images (the last epoch's)")
        echo(f"after {result.seconds:.0f} s of training and evaluation; best epoch {result.best_epoch + 1}: "
             f"{result.best_top1:.2f} %")  # fmt: skip
        echo(f"files: {output} (model, result.json, log.jsonl, best.safetensors, checkpoint.pt, recipe.json)")
        if (output / "model").is_dir():
            echo("load it with")
            echo(result.load_line)
