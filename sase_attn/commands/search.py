"""`sase-attn search`: search for a genotype, retrain it beside others, and write the report."""

import argparse
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sase_attn import quoting
from sase_attn.commands.arguments import add_command, whole
from sase_attn.commands.comparison import CompareOptions, add_comparison_flags, compare_options, holds_options
from sase_attn.commands.flags import given_flags, summary
from sase_attn.commands.search_flags import add_config_flags, config_from_flags
from sase_attn.comparison.networks import own_attention
from sase_attn.lock import InUseError, one_process
from sase_attn.search.agreement import agreement
from sase_attn.search.begun import has_trainings, saved_config
from sase_attn.search.by_shared_weights import OnlyLookedError, look_first
from sase_attn.search.config import BY_TRAININGS, SearchConfig
from sase_attn.search.report.page import write_report
from sase_attn.search.result import SearchResult
from sase_attn.search.run import search
from sase_attn.search.seeds import search_seeds
from sase_attn.search.shared_weights.checkpoint import load_search
from sase_attn.search.signal.answers import NOTHING
from sase_attn.search.verdict import load_signal, move_old_comparison, with_verdict
from sase_attn.training.checkpoint import NAME as CHECKPOINT
from sase_attn.training.distributed import Ranks, ranks
from sase_attn.training.run_folder import run_folder


def add_parser(commands: Any) -> None:
    """Add `search` to the subparsers of `sase-attn`."""
    sub = add_command(
        commands,
        "search",
        run,
        "Search for a block's operations, retrain it beside others, and report; stop and resume it.",
    )
    sub.epilog = (
        "torchrun --nproc-per-node 2 -m sase_attn search … searches on two devices, with the same global batch. "
        "With a method that trains genotypes, the same line started again is one more worker."
    )
    add_config_flags(sub)
    sub.add_argument("--output", type=Path, metavar="FOLDER", help="default: runs/search-<recipe>-seed<seed>")
    sub.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with the search in this folder")
    sub.add_argument(
        "--storage", metavar="URL", help="database that holds the trainings, as postgresql://user@host/database"
    )
    sub.add_argument("--device", help="cpu, cuda or cuda:N (default: CUDA where there is a device)")
    sub.add_argument("--seeds", type=whole(1, 1000), default=1, metavar="N", help="searches, with seeds from --seed on")
    sub.add_argument("--jobs", type=whole(1, 1000), default=1, metavar="N", help="searches or trainings at a time")
    sub.add_argument("--show", action="store_true", help="print the configuration as JSON and search nothing")
    add_comparison_flags(sub)


def run(args: argparse.Namespace) -> None:
    """Search, compare and report, or continue the search in a folder."""
    if args.resume is not None and (args.recipe or args.output or args.seeds != 1):
        args.error("--resume goes on with what the folder holds: leave out --recipe, --output and --seeds")
    name = args.recipe or "quick"
    config = config_from_flags(args, _start(args, name))
    if unread := sorted(config.without_effect & given_flags(args, SearchConfig).keys()):
        flags = quoting.enumerated(f"--{name.replace('_', '-')}" for name in unread)
        args.error(f"{flags}: no effect with the method {config.method}; leave out, or choose another --method")
    if args.show:
        print(config.to_json())
        return
    by_trainings = config.method in BY_TRAININGS
    trains = by_trainings or config.signal > 0
    if args.storage and not trains:
        args.error(
            f"--storage: wanted a method that trains genotypes ({', '.join(BY_TRAININGS)}), or --signal, got "
            f"{config.method} alone"
        )
    needed = [*(["optuna", "scipy"] * trains), *(["scipy", "matplotlib"] * args.compare)]
    if missing := [package for package in dict.fromkeys(needed) if find_spec(package) is None]:
        packages = quoting.enumerated(missing)
        raise ImportError(f'a search with its report needs {packages}: pip install "sase-attn[search]"')
    stem = Path(name).stem if name.endswith(".json") else name
    words = stem if config.method == SearchConfig.get(name).method else f"{stem}-{config.method}"
    output = args.resume or args.output or Path("runs") / re.sub(r"[^\w.-]+", "-", f"search-{words}-seed{config.seed}")
    options = compare_options(args, output, quick=stem == "quick" and args.resume is None)
    if trains and args.compare_epochs is None and not holds_options(args):
        options = replace(options, epochs=config.train_epochs)
    if args.seeds > 1:
        if by_trainings:
            args.error(f"--seeds: wanted 1 with {config.method}, which trains with several itself, got {args.seeds}")
        _search_several(args, config, output, options)
        return
    resume = args.resume is not None
    with ranks(args.device) as group, ExitStack() as stack:
        if not trains:  # otherwise other processes may join as workers
            stack.enter_context(run_folder(output, group, "search", resume=resume))
        if group.world_size > 1 and args.jobs > 1:
            args.error("--jobs: expected 1 with several processes of one search")
        echo = group.on_main(partial(print, flush=True))
        echo(summary(config, f"configuration of {output}" if args.resume else f"search {name}", config.without_effect))
        if line := own_attention(config.model, config.model_kwargs):
            echo(line)
        result = None
        try:
            result = search(
                config=config,
                output=output,
                resume=resume,
                storage=args.storage,
                jobs=args.jobs,
                device=args.device,
                extra_files=options.files,
                echo=echo,
            )
            echo(f"genotype: {result.genotype}")
            for line in result.warnings():
                echo(f"  warning: {line}")
            if args.compare:
                _compare(args, config, result, options, group, echo)
        except OnlyLookedError as error:
            echo(str(error))
            return
        except KeyboardInterrupt:
            begun = by_trainings or (trains and not (output / CHECKPOINT).exists())
            if begun or result is not None:  # otherwise the search has printed it
                storage = ["--storage", "URL"] * bool(args.storage)
                again = quoting.command("search", "--resume", output, *storage)
                echo(f"search and comparison go on with\n{again}")
            raise
        echo("use it with")
        path = quoting.python((output / "genotype.json").resolve())
        echo(f"from sase_attn import Genotype; genotype = Genotype.load({path})")


def _start(args: argparse.Namespace, name: str) -> SearchConfig:
    """The configuration to which the flags are applied: that of a recipe, or of the resumed search."""
    if args.resume is None:
        return SearchConfig.get(name)
    if (args.resume / CHECKPOINT).exists() or not has_trainings(args.resume):
        return load_search(args.resume).settings
    return saved_config(args.resume) or load_search(args.resume).settings


def _compare(
    args: argparse.Namespace,
    config: SearchConfig,
    result: SearchResult,
    options: CompareOptions,
    group: Ranks,
    echo: Callable[[str], object],
) -> None:
    """Retrain the found genotype beside others, print the verdict, and write the report. Only one worker does so.

    If the look for signal answered "nothing to find", nothing is retrained.
    """
    output, note = Path(result.output), quick_note(config) if options.quick else ""
    try:
        with run_folder(output, group, "search", resume=True):
            looked = load_signal(output)
            if looked is not None and looked.answer == NOTHING:
                echo(f"not decided: {result.reason}")
                if group.is_main:
                    echo(f"report: {write_report(output, note)}")
                return
            if group.is_main:
                move_old_comparison(result)
                options.save(output)
            comparison = result.compare(
                random=options.random,
                published=not options.quick,
                seeds=result.fresh_seeds(options.seeds),
                epochs=options.epochs,
                jobs=args.jobs,
                device=args.device,
                echo=echo,
            )
            echo(comparison.table())
            result = with_verdict(result, comparison)
            echo(f"{'decided' if result.decided else 'not decided'}: {result.reason}")
            if note:
                echo(note)
            if group.is_main:
                result.save()
                echo(f"report: {write_report(output, note)}")
    except InUseError:
        if config.method not in BY_TRAININGS and not config.signal:
            raise
        echo(f"another worker compares what was found, and writes the report in {output}")


def quick_note(config: SearchConfig) -> str:
    """A note on how far a search by the recipe `quick` can be trusted, with the values that it ran with."""
    changed = [name for name in config.differences(SearchConfig.get("quick")) if name not in config.without_effect]
    work = quoting.counted(config.epochs, "epoch")
    advice = "search with --recipe paper on your own data, with several --seeds, and retrain for longer"
    if config.method in BY_TRAININGS:
        work = f"{config.trainings} trainings of {quoting.counted(config.train_epochs, 'epoch')}"
        advice = "search with --recipe standard on your own data, and ask sase-attn signal before"
    elif config.method == "darts":
        work += f" and an alpha learning rate of {config.alpha_lr:g}"
    size = "the data's own size" if config.size is None else f"{config.size}×{config.size} images"
    return (
        f"This is the quick recipe{f', with other {quoting.enumerated(changed)}' if changed else ''}: {config.model}, "
        f"{size}, {work}, to show the whole way in minutes. Trust it to run, not to rank: for a genotype to use, "
        f"{advice}."
    )


def _search_several(args: argparse.Namespace, config: SearchConfig, output: Path, options: CompareOptions) -> None:
    """Search with several seeds, report how often they agree, and compare all found genotypes in one comparison.

    There is only one look for signal for all of them.
    """
    seeds = range(config.seed, config.seed + args.seeds)

    echo = partial(print, flush=True)
    echo(summary(config, f"{args.seeds} searches in {output}", config.without_effect))
    with one_process(output):
        if config.signal:
            with ranks(args.device) as group:
                nothing = look_first(
                    config,
                    output,
                    storage=args.storage,
                    jobs=args.jobs,
                    device=args.device,
                    extra_files=options.files,
                    group=group,
                    echo=echo,
                )
            if nothing is not None:
                echo(f"not decided: {nothing.reason}")
                if args.compare:
                    echo(f"report: {write_report(output)}")
                return
        results = search_seeds(config.override(signal=0), output, seeds, jobs=args.jobs, device=args.device, echo=echo)
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
            echo(comparison.table())
            looked = load_signal(output) if config.signal else None
            if looked is not None:
                looked.save(first.output)  # the report is written for the first search
            echo(f"report: {write_report(first.output)}")
