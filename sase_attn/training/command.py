"""`sase-attn train` and `sase-attn evaluate`: flags from the fields of a recipe, one call, what people want to know."""

import argparse
import json
import re
import textwrap
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from sase_attn.arguments import add_command, key_value
from sase_attn.training import checkpoint
from sase_attn.training.distributed import ranks
from sase_attn.training.evaluate import evaluate
from sase_attn.training.loading import load_network, recipe_of
from sase_attn.training.normalisation import as_trained
from sase_attn.training.recipes import RECIPES, Recipe, recipe_fields
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
    _add_fields(sub.add_argument_group("fields of the recipe"), [item.name for item, _ in recipe_fields()])

    sub = add_command(commands, "evaluate", _evaluate, "Accuracy of a trained network on the test images of a set.")
    sub.add_argument("source", metavar="SOURCE", help="a run's folder, a saved model's, a weights file, or timm's name")
    sub.add_argument("--device", help="cpu, cuda or cuda:N (default: CUDA where there is a device)")
    sub.add_argument("--json", action="store_true", help="print JSON")
    text = "where the run's own recipe is recorded, it is the default; model and arguments count for weights files"
    _add_fields(sub.add_argument_group("data and model", text), ["model", "model_kwargs", *_DATA_FIELDS])


def _train(args: argparse.Namespace) -> None:
    flags = _given(args)
    name = args.recipe or "embedded"
    resumed = args.resume and args.recipe is None and args.output is not None
    recipe = (checkpoint.load(args.output)[2] if resumed else Recipe.get(name)).override(**flags)
    if args.show:
        print(recipe.to_json())
        return
    words = (Path(name).stem if name.endswith(".json") else name, recipe.model, f"seed{recipe.seed}")
    output = args.output or Path("runs") / re.sub(r"[^\w.-]+", "-", "-".join(words))
    with ranks(args.device) as group:
        tell: Callable[[str], object] = print if group.is_main else (lambda line: None)
        tell(_summary(recipe, f"recipe of {output}" if resumed else f"recipe {name}"))
        result = train(recipe, output, resume=args.resume, device=args.device, tell=_flushed(tell))
        tell(f"top-1 {result.top1:.2f} %, top-5 {result.top5:.2f} % of {result.count} test images (the last epoch's)")
        tell(f"after {result.seconds:.0f} s of training and evaluation; best epoch {result.best_epoch + 1}: "
             f"{result.best_top1:.2f} %")  # fmt: skip
        tell(f"files: {output} (model, result.json, log.jsonl, best.safetensors, checkpoint.pt, recipe.json)")
        if (output / "model").is_dir():
            tell("load it with")
            tell(result.load_line)


def _evaluate(args: argparse.Namespace) -> None:
    recipe = (recipe_of(args.source) or Recipe()).override(**_given(args))
    with ranks(args.device) as group:
        train_batches, test_batches, info = open_recipe_data(recipe, group)
        model, known = load_network(args.source, recipe, num_classes=len(info.classes), in_chans=info.channels)
        if known:
            _, test_batches, _ = as_trained(model, (train_batches, test_batches), info)
        metrics = evaluate(model.to(group.device), test_batches.epoch(0), group)
        if not group.is_main:
            return
        if args.json:
            print(json.dumps({"source": args.source, "data": info.name, **asdict(metrics)}, indent=2))
            return
        print(f"{args.source} on {info.name}: top-1 {metrics.top1:.2f} %, top-5 {metrics.top5:.2f} %, "
              f"loss {metrics.loss:.4f}, {metrics.count} test images")  # fmt: skip


def _flushed(tell: Callable[[str], object]) -> Callable[[str], object]:
    return (lambda line: print(line, flush=True)) if tell is print else tell


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The fields that came as flags."""
    return {item.name: getattr(args, item.name) for item, _ in recipe_fields() if hasattr(args, item.name)}


def _summary(recipe: Recipe, title: str) -> str:
    values = [f"{key}={json.dumps(value)}".replace('"', "") for key, value in asdict(recipe).items()]
    return "\n".join([f"{title}:", *textwrap.wrap(", ".join(values), 110, initial_indent="  ", subsequent_indent="  ")])


def _add_fields(group: Any, names: list[str]) -> None:
    for item, hint in recipe_fields():
        if item.name not in names:
            continue
        flag, text = f"--{item.name.replace('_', '-')}", item.metadata["help"]
        group.add_argument(flag, default=argparse.SUPPRESS, help=text, **_parsed_as(hint))


def _parsed_as(hint: Any) -> dict[str, Any]:
    """How argparse reads a field of this type."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    kind = kinds[0]
    metavar = {int: "N", float: "X", str: "NAME"}
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(kind) is dict:
        return {"type": key_value, "action": _Dict, "nargs": "*", "metavar": "KEY=VALUE"}
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        return {"type": inner, "nargs": "*", "metavar": metavar[inner]}
    if NoneType not in kinds:
        return {"type": kind, "metavar": metavar[kind]}

    def optional(text: str) -> Any:
        return None if text == "none" else kind(text)

    optional.__name__ = kind.__name__  # what argparse calls the type in its error
    return {"type": optional, "metavar": f"{metavar[kind]}|none"}


class _Dict(argparse.Action):
    """Collects key=value pairs into a dictionary, over one flag or several."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, getattr(namespace, self.dest, {}) | dict(values))
