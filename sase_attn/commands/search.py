"""`sase-attn search` and `sase-attn sweep`: flags from the fields of the configuration, what people want to know."""

import argparse
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sase_attn.commands.arguments import add_command
from sase_attn.commands.flags import add_flags, given_flags, summary
from sase_attn.files import write_json
from sase_attn.records import read_record
from sase_attn.search.agreement import agreement
from sase_attn.search.checkpoint import load_search
from sase_attn.search.compare import default_recipe
from sase_attn.search.comparison import Comparison
from sase_attn.search.config import SEARCHES, SearchConfig
from sase_attn.search.report.page import write_report
from sase_attn.search.result import SearchResult
from sase_attn.search.run import search
from sase_attn.search.seeds import search_seeds
from sase_attn.search.sweep import SAMPLERS, sweep
from sase_attn.training.distributed import ranks

OPTIONS = "compare.json"


@dataclass(frozen=True)
class CompareOptions:
    """What a search is compared with at its end: so many random genotypes, and trainings of so many seeds and epochs.

    `quick` leaves out the published genotypes.
    """

    quick: bool
    random: int
    seeds: int
    epochs: int


_QUICK = CompareOptions(quick=True, random=1, seeds=3, epochs=4)
_FULL = CompareOptions(quick=False, random=3, seeds=3, epochs=10)
_QUICK_NOTE = (
    "This is the quick recipe: a small network, small images, four epochs and a large alpha learning rate, to show the "
    "whole way in minutes. Trust it to run, not to rank: for a genotype to use, search with --recipe paper on your own "
    "data, with several --seeds, and retrain for longer."
)


def add_search_parsers(commands: Any) -> None:
    """Add `search` and `sweep` to the subparsers of the command `sase-attn`."""
    sub = add_command(
        commands, "search", _search, "Search a genotype, retrain it beside others, and report; stop and resume it."
    )
    sub.epilog = (
        "torchrun --nproc-per-node 2 -m sase_attn search … searches on two devices, with the same global batch."
    )
    _add_config(sub)
    sub.add_argument("--output", type=Path, metavar="FOLDER", help="default: runs/search-<recipe>-seed<seed>")
    sub.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with the search in this folder")
    sub.add_argument("--device", help="cpu, cuda or cuda:N (default: CUDA where there is a device)")
    sub.add_argument("--seeds", type=int, default=1, metavar="N", help="searches, with seeds from --seed on")
    sub.add_argument("--jobs", type=int, default=1, metavar="N", help="searches or trainings at a time")
    sub.add_argument("--show", action="store_true", help="print the configuration as JSON and search nothing")
    group = sub.add_argument_group("comparison at the end")
    group.add_argument("--compare", action=argparse.BooleanOptionalAction, default=True, help="retrain at all")
    group.add_argument("--compare-random", type=int, metavar="N", help="random genotypes beside the one found")
    group.add_argument("--compare-seeds", type=int, metavar="N", help="trainings of each network")
    group.add_argument("--compare-epochs", type=int, metavar="N", help="of each training")

    sub = add_command(
        commands, "sweep", _sweep, "Train genotypes that Optuna chooses; start it again for more workers on one folder."
    )
    sub.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="of the sweep; workers share it")
    sub.add_argument("--trials", type=int, default=20, metavar="N", help="in all (default: %(default)s)")
    sub.add_argument("--sampler", choices=SAMPLERS, default="tpe", help="default: %(default)s")
    sub.add_argument("--train-epochs", type=int, default=4, metavar="N", help="of each (default: %(default)s)")
    sub.add_argument("--device", help="cpu, cuda or cuda:N (default: CUDA where there is a device)")
    _add_config(sub, ["model", "model_kwargs", "after", "space", "without", "data", "size", "augment", "workers"])


def _add_config(sub: argparse.ArgumentParser, names: list[str] | None = None) -> None:
    sub.add_argument(
        "--recipe", metavar="NAME", help=f"{', '.join(SEARCHES)}, or a .json file (default: quick); flags change it"
    )
    add_flags(sub.add_argument_group("fields of the configuration"), SearchConfig, names)


def _config(args: argparse.Namespace, start: SearchConfig) -> SearchConfig:
    """The configuration with the flags; arguments of one model are not those of another."""
    flags = given_flags(args, SearchConfig)
    if "model" in flags and flags["model"] != start.model:
        flags = {"model_kwargs": {}} | flags
    return start.override(**flags)


def _search(args: argparse.Namespace) -> None:
    if args.resume is not None and (args.recipe or args.output or args.seeds != 1):
        args.error("--resume goes on with what the folder holds: leave out --recipe, --output and --seeds")
    if args.seeds < 1 or args.jobs < 1:
        args.error("--seeds and --jobs: expected at least 1")
    name = args.recipe or "quick"
    start = SearchConfig.get(name) if args.resume is None else load_search(args.resume).settings
    config = _config(args, start)
    if args.show:
        print(config.to_json())
        return
    missing = [package for package in ("scipy", "matplotlib") if args.compare and find_spec(package) is None]
    if missing:
        raise ImportError(f'a search with its report needs {" and ".join(missing)}: pip install "sase-attn[search]"')
    stem = Path(name).stem if name.endswith(".json") else name
    output = args.resume or args.output or Path("runs") / re.sub(r"[^\w.-]+", "-", f"search-{stem}-seed{config.seed}")
    options = _options(args, output, quick=stem == "quick")
    if args.seeds > 1:
        _many(args, config, output, options)
        return
    with ranks(args.device) as group:
        if group.world_size > 1 and args.jobs > 1:
            args.error("--jobs: expected 1 with several processes of one search")

        def echo(line: str) -> None:
            if group.is_main:
                print(line, flush=True)

        echo(summary(config, f"configuration of {output}" if args.resume else f"search {name}"))
        result = search(config=config, output=output, resume=args.resume is not None, device=args.device, echo=echo)
        echo(f"genotype: {result.genotype}")
        for line in result.doubts():
            echo(f"  doubt: {line}")
        if args.compare:
            if group.is_main:
                write_json(output / OPTIONS, asdict(options))
            try:
                comparison = result.compare(
                    random=options.random,
                    published=not options.quick,
                    seeds=range(options.seeds),
                    epochs=options.epochs,
                    jobs=args.jobs,
                    device=args.device,
                    echo=echo,
                )
            except KeyboardInterrupt:
                echo(f"search and comparison go on with\nsase-attn search --resume {output}")
                raise
            note = _QUICK_NOTE if options.quick else ""
            _echo_comparison(comparison, echo, note)
            if group.is_main:
                echo(f"report: {write_report(output, note)}")
        echo("use it with")
        echo(f'from sase_attn import Genotype; genotype = Genotype.load("{(output / "genotype.json").resolve()}")')


def _options(args: argparse.Namespace, output: Path, *, quick: bool) -> CompareOptions:
    """What is compared: flags, else what the folder's search was started with, else the recipe's."""
    saved = output / OPTIONS
    options = _QUICK if quick else _FULL
    if args.resume is not None and saved.is_file():
        options = read_record(saved, CompareOptions)
    for key in ("random", "seeds", "epochs"):
        value = getattr(args, f"compare_{key}")
        if value is not None:
            if value < (key != "random"):
                args.error(f"--compare-{key}: expected at least {int(key != 'random')}, got {value}")
            options = replace(options, **{key: value})
    return options


def _many(args: argparse.Namespace, config: SearchConfig, output: Path, options: CompareOptions) -> None:
    """Several seeds, how far they agree, and one comparison of what all of them found."""
    seeds = range(config.seed, config.seed + args.seeds)

    def echo(line: str) -> None:
        print(line, flush=True)

    echo(summary(config, f"{args.seeds} searches in {output}"))
    results = search_seeds(config, output, seeds, jobs=args.jobs, device=args.device, echo=echo)
    for line in agreement(results).lines():
        echo(line)
    if args.compare:
        chosen = {f"found-seed{result.config['seed']}": result.found for result in results}
        first = SearchResult.load(output / f"seed{seeds[0]}")
        others = {f"random-{seed}": first.space.random(seed) for seed in range(options.random)}
        comparison = first.compare(
            chosen | others,
            seeds=range(options.seeds),
            epochs=options.epochs,
            jobs=args.jobs,
            device=args.device,
            echo=echo,
        )
        _echo_comparison(comparison, echo, "")
        echo(f"report: {write_report(first.output)}")


def _echo_comparison(comparison: Comparison, echo: Callable[[str], object], note: str) -> None:
    echo(comparison.table())
    if comparison.tau is not None:
        echo(
            f"Kendall's τ between sub-network and retrained accuracy: {comparison.tau:.2f} (p = {comparison.tau_p:.2f})"
        )
    for line in [*comparison.verdict, note]:
        if line:
            echo(line)


def _sweep(args: argparse.Namespace) -> None:
    config = _config(args, SearchConfig.get(args.recipe or "quick"))
    recipe = default_recipe(config, args.train_epochs)
    found = sweep(
        config,
        recipe,
        args.output,
        trials=args.trials,
        sampler=args.sampler,
        device=args.device,
        echo=lambda line: print(line, flush=True),
    )
    for trial in found[:10]:
        print(f"{trial.top1:6.2f} %  {trial.genotype}")
    print(f"{len(found)} of {args.trials} trials done in {args.output}")
