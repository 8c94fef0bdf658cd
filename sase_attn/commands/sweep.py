"""`sase-attn sweep`: genotypes that Optuna chooses are trained one by one, by any number of workers."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from sase_attn.commands.arguments import add_command, whole
from sase_attn.commands.search_flags import add_config_flags, config_from_flags
from sase_attn.search.compare import default_recipe
from sase_attn.search.config import SearchConfig
from sase_attn.search.sweep import SAMPLERS, sweep
from sase_attn.settings import MANY


def add_parser(commands: Any) -> None:
    """Add `sweep` to the subparsers of `sase-attn`."""
    sub = add_command(
        commands, "sweep", run, "Train genotypes that Optuna chooses; start it again for more workers on one folder."
    )
    sub.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="of the sweep; workers share it")
    sub.add_argument("--trials", type=whole(1, MANY), default=20, metavar="N", help="in all (default: %(default)s)")
    sub.add_argument("--sampler", choices=SAMPLERS, default="tpe", help="default: %(default)s")
    sub.add_argument(
        "--train-epochs", type=whole(1, MANY), default=4, metavar="N", help="of each (default: %(default)s)"
    )
    sub.add_argument("--device", help="cpu, cuda or cuda:N (default: CUDA where there is a device)")
    add_config_flags(sub, ["model", "model_kwargs", "after", "space", "without", "data", "size", "augment", "workers"])


def run(args: argparse.Namespace) -> None:
    """Work on the sweep until it has its trials, and print the best."""
    config = config_from_flags(args, SearchConfig.get(args.recipe or "quick"))
    recipe = default_recipe(config, args.train_epochs)
    found = sweep(
        config,
        recipe,
        args.output,
        trials=args.trials,
        sampler=args.sampler,
        device=args.device,
        echo=partial(print, flush=True),
    )
    for trial in found[:10]:
        print(f"{trial.top1:6.2f} %  {trial.genotype}")
    others = "" if len(found) >= args.trials else "; the others failed, or other workers are at them"
    print(f"{len(found)} of {args.trials} trials done in {args.output}{others}")
