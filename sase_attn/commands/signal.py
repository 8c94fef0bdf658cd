"""`sase-attn signal`: test whether genotypes differ in accuracy, so that a search could find anything."""

import argparse
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sase_attn.commands.arguments import add_command, whole
from sase_attn.commands.search_flags import add_config_flags, config_from_flags
from sase_attn.comparison.networks import own_attention
from sase_attn.files import is_temporary
from sase_attn.quoting import counted
from sase_attn.search.compare import default_recipe
from sase_attn.search.config import SearchConfig
from sase_attn.search.signal import SignalPlan
from sase_attn.search.signal import signal as read_signal
from sase_attn.search.signal.plan import MEASURES
from sase_attn.search.signal.result import NAME
from sase_attn.search.trainings.folders import TRAININGS
from sase_attn.search.trainings.journal_lock import JOURNAL_LOCK
from sase_attn.search.trainings.run import run_trainings
from sase_attn.search.trainings.storage import JOURNAL
from sase_attn.search.trainings.worker import WORKERS
from sase_attn.settings import MANY
from sase_attn.training.distributed import ranks

_FIELDS = ["model", "model_kwargs", "after", "space", "without"]
_FIELDS += ["data", "size", "augment", "color_jitter", "workers", "on_broken"]
_OWN = (JOURNAL, JOURNAL_LOCK, TRAININGS, WORKERS, NAME)


def add_parser(commands: Any) -> None:
    """Add `signal` to the subparsers of `sase-attn`."""
    sub = add_command(
        commands, "signal", run, "Train balanced genotypes with common seeds, until it is known whether they differ."
    )
    sub.epilog = (
        "Started again with the same arguments, it goes on where it was; several times, it has several workers."
    )
    sub.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="folder of the trainings; workers share it"
    )
    sub.add_argument(
        "--budget",
        type=whole(1, MANY),
        default=84,
        metavar="N",
        help="largest number of trainings (default: %(default)s)",
    )
    sub.add_argument(
        "--threshold",
        type=float,
        default=0.2,
        metavar="X",
        help="intraclass correlation above which there is a signal (default: %(default)s)",
    )
    sub.add_argument(
        "--seeds",
        type=whole(2, 1000),
        default=4,
        metavar="N",
        help="trainings of each genotype, each with another seed (default: %(default)s)",
    )
    sub.add_argument(
        "--measure", choices=MEASURES, default="top1", help="what the answer is judged by (default: %(default)s)"
    )
    sub.add_argument(
        "--train-epochs",
        type=whole(1, MANY),
        default=4,
        metavar="N",
        help="epochs of each training (default: %(default)s)",
    )
    sub.add_argument("--storage", metavar="URL", help="database, for machines that share no folder")
    sub.add_argument("--device", help="cpu, cuda or cuda:N (default: CUDA where there is a device)")
    add_config_flags(sub, _FIELDS)


def run(args: argparse.Namespace) -> None:
    """Run the trainings that the question needs, print the answer, and write it to the folder."""
    if find_spec("scipy") is None:  # better now than after hours of training
        raise ImportError('asking for a signal needs scipy: pip install "sase-attn[search]"')
    config = config_from_flags(args, SearchConfig.get(args.recipe or "quick"))
    recipe = default_recipe(config, args.train_epochs)
    plan = SignalPlan(
        config.search_space(),
        budget=args.budget,
        threshold=args.threshold,
        seeds=tuple(range(args.seeds)),
        measure=args.measure,
    )
    with ranks(args.device) as group:
        echo = group.on_main(partial(print, flush=True))
        with group.together():
            _check_folder(args.output)
        echo(f"signal in {config.model}, recipe {args.recipe or 'quick'}: {recipe.size or 'own'} pixels, {config.data}")
        if line := own_attention(config.model, config.model_kwargs):
            echo(line)
        first = f"{plan.step} genotypes × {args.seeds} seeds"
        echo(f"{first} of {counted(args.train_epochs, 'epoch')}, then more of them up to {plan.looks} times as many")
        done = run_trainings(plan, config, recipe, args.output, storage=args.storage, device=args.device, echo=echo)
        found = read_signal(done, plan, epochs=args.train_epochs)
        if group.is_main:
            found.save(args.output)
        for line in found.lines():
            echo(line)
        echo(f"files: {args.output} (signal.json, and a folder for each training)")


def _check_folder(folder: Path) -> None:
    """Raise FileExistsError unless a folder is new, empty, or has what this command leaves there."""
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file: wanted a folder; name another")
    others = [path.name for path in folder.glob("*") if path.name not in _OWN and not is_temporary(path)]
    if others:
        raise FileExistsError(
            f"{folder} is in use: wanted a new or empty folder, or one of this command, got one with "
            f"{min(others)}; name another"
        )
