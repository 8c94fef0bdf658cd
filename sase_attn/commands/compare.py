"""`sase-attn compare`: attentions in one network, trained with the same seeds and initial weights."""

import argparse
from dataclasses import fields
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sase_attn.attentions.starting_gain import PUBLISHED, UNIT
from sase_attn.commands.arguments import add_command, key_value, whole
from sase_attn.commands.flags import add_flags, given_flags, summary
from sase_attn.comparison import attended, compare
from sase_attn.comparison.networks import own_attention
from sase_attn.comparison.run import PER_NETWORK
from sase_attn.training.recipes import RECIPES, Recipe

_FIELDS = [item.name for item in fields(Recipe) if item.name not in PER_NETWORK]


def add_parser(commands: Any) -> None:
    """Add `compare` to the subparsers of `sase-attn`."""
    sub = add_command(commands, "compare", run, "Compare attentions in one network by trainings of paired seeds.")
    sub.epilog = "Started again with the same arguments, it continues where it was."
    sub.add_argument("attentions", nargs="+", metavar="ATTENTION", help="names, or genotypes; see `sase-attn list`")
    sub.add_argument("--base", default="resnet20_cifar", metavar="NAME", help="a model of timm without attention")
    sub.add_argument(
        "--base-args", type=key_value, nargs="*", default=[], metavar="KEY=VALUE", help="arguments of the base"
    )
    sub.add_argument(
        "--after", nargs="+", default=["layer*.*.bn2"], metavar="PATTERN", help="layers after which attention goes"
    )
    sub.add_argument(
        "--gain", choices=(UNIT, PUBLISHED), default=UNIT, help="the gain that attentions start with (default: unit)"
    )
    sub.add_argument(
        "--constants",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also train constants of the published gains in place of attention",
    )
    sub.add_argument(
        "--seeds", type=whole(1, 1000), default=5, metavar="N", help="trainings of each network (default: 5)"
    )
    sub.add_argument("--jobs", type=whole(1, 1000), default=1, metavar="N", help="trainings at a time")
    sub.add_argument(
        "--recipe", default="embedded", metavar="NAME", help=f"{', '.join(RECIPES)}, or a .json file; flags change it"
    )
    sub.add_argument("--output", type=Path, metavar="FOLDER", help="default: runs/compare-<base>")
    sub.add_argument("--device", help="cpu, cuda or cuda:N (default: CUDA where there is a device)")
    add_flags(sub.add_argument_group("fields of the recipe"), Recipe, _FIELDS)


def run(args: argparse.Namespace) -> None:
    """Train all networks with all seeds, and print the table."""
    if find_spec("scipy") is None:  # better now than after hours of training
        raise ImportError('a comparison needs scipy: pip install "sase-attn[search]"')
    recipe = Recipe.get(args.recipe).override(**given_flags(args, Recipe))
    networks = attended(
        args.base,
        args.attentions,
        after=args.after,
        base_args=dict(args.base_args),
        gain=args.gain,
        constants=args.constants,
        from_weights=recipe.init_from is not None,
    )
    output = args.output or Path("runs") / f"compare-{args.base}"
    echo = partial(print, flush=True)
    echo(summary(recipe, f"recipe {args.recipe}"))
    if line := own_attention(args.base, dict(args.base_args)):
        echo(line)
    result = compare(networks, recipe, output, seeds=range(args.seeds), jobs=args.jobs, device=args.device, echo=echo)
    echo(result.table())
    echo(f"files: {output} (comparison.json, and a folder for each training)")
