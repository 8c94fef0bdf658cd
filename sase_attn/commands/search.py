"""`sase-attn search`: search a genotype, retrain it beside others, and write the report."""

import argparse
import re
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sase_attn import quoting
from sase_attn.commands.arguments import add_command, whole
from sase_attn.commands.comparison import CompareOptions, add_comparison_flags, compare_options
from sase_attn.commands.flags import summary
from sase_attn.commands.search_flags import add_config_flags, config_from_flags
from sase_attn.comparison.networks import own_attention
from sase_attn.lock import one_process
from sase_attn.search.agreement import agreement
from sase_attn.search.config import SearchConfig
from sase_attn.search.report.page import write_report
from sase_attn.search.result import SearchResult
from sase_attn.search.run import search
from sase_attn.search.seeds import search_seeds
from sase_attn.search.shared_weights.checkpoint import load_search
from sase_attn.training.distributed import ranks
from sase_attn.training.run_folder import run_folder


def add_parser(commands: Any) -> None:
    """Add `search` to the subparsers of `sase-attn`."""
    sub = add_command(
        commands, "search", run, "Search a genotype, retrain it beside others, and report; stop and resume it."
    )
    sub.epilog = (
        "torchrun --nproc-per-node 2 -m sase_attn search … searches on two devices, with the same global batch."
    )
    add_config_flags(sub)
    sub.add_argument("--output", type=Path, metavar="FOLDER", help="default: runs/search-<recipe>-seed<seed>")
    sub.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with the search in this folder")
    sub.add_argument("--device", help="cpu, cuda or cuda:N (default: CUDA where there is a device)")
    sub.add_argument("--seeds", type=whole(1, 1000), default=1, metavar="N", help="searches, with seeds from --seed on")
    sub.add_argument("--jobs", type=whole(1, 1000), default=1, metavar="N", help="searches or trainings at a time")
    sub.add_argument("--show", action="store_true", help="print the configuration as JSON and search nothing")
    add_comparison_flags(sub)


def run(args: argparse.Namespace) -> None:
    """Search, compare and report, or go on with what the folder holds."""
    if args.resume is not None and (args.recipe or args.output or args.seeds != 1):
        args.error("--resume goes on with what the folder holds: leave out --recipe, --output and --seeds")
    name = args.recipe or "quick"
    start = SearchConfig.get(name) if args.resume is None else load_search(args.resume).settings
    config = config_from_flags(args, start)
    if args.show:
        print(config.to_json())
        return
    missing = [package for package in ("scipy", "matplotlib") if args.compare and find_spec(package) is None]
    if missing:
        raise ImportError(f'a search with its report needs {" and ".join(missing)}: pip install "sase-attn[search]"')
    stem = Path(name).stem if name.endswith(".json") else name
    output = args.resume or args.output or Path("runs") / re.sub(r"[^\w.-]+", "-", f"search-{stem}-seed{config.seed}")
    options = compare_options(args, output, quick=stem == "quick")
    if args.seeds > 1:
        _search_several(args, config, output, options)
        return
    resume = args.resume is not None
    with ranks(args.device) as group, run_folder(output, group, "search", resume=resume):
        if group.world_size > 1 and args.jobs > 1:
            args.error("--jobs: expected 1 with several processes of one search")
        echo = group.on_main(partial(print, flush=True))
        echo(summary(config, f"configuration of {output}" if args.resume else f"search {name}"))
        if line := own_attention(config.model, config.model_kwargs):
            echo(line)
        result = search(config=config, output=output, resume=resume, device=args.device, echo=echo)
        echo(f"genotype: {result.genotype}")
        for line in result.doubts():
            echo(f"  doubt: {line}")
        if args.compare:
            if group.is_main:
                options.save(output)
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
            echo(comparison.table())
            if options.quick:
                echo(quick_note(config))
            if group.is_main:
                echo(f"report: {write_report(output, quick_note(config) if options.quick else '')}")
        echo("use it with")
        path = quoting.python((output / "genotype.json").resolve())
        echo(f"from sase_attn import Genotype; genotype = Genotype.load({path})")


def quick_note(config: SearchConfig) -> str:
    """How far a search that started from the recipe `quick` can be trusted, with the values that it ran with."""
    changed = config.differences(SearchConfig.get("quick"))
    size = "the data's own size" if config.size is None else f"{config.size}×{config.size} images"
    return (
        f"This is the quick recipe{f', with other {_listed(changed)}' if changed else ''}: {config.model}, {size}, "
        f"{config.epochs} epoch{'s' * (config.epochs != 1)} and an alpha learning rate of {config.alpha_lr:g}, to show "
        "the whole way in minutes. Trust it to run, not to rank: for a genotype to use, search with --recipe paper on "
        "your own data, with several --seeds, and retrain for longer."
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _search_several(args: argparse.Namespace, config: SearchConfig, output: Path, options: CompareOptions) -> None:
    """Several seeds, how far they agree, and one comparison of what all of them found."""
    seeds = range(config.seed, config.seed + args.seeds)

    echo = partial(print, flush=True)
    echo(summary(config, f"{args.seeds} searches in {output}"))
    with one_process(output):
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
            echo(comparison.table())
            echo(f"report: {write_report(first.output)}")
