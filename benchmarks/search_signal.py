"""Do searches by shared weights find good genotypes? Searches in the setting of the table of `space/`, retrained.

    python benchmarks/search_signal.py --data FOLDER [--seeds 3] [--only TEXT] [--estimate | --summary]

`FOLDER` is CIFAR-10 as an image folder; the setting is that of `gain.py`. Each search has 600 steps on half of the
training images, in the space of the table: `darts` as published and mended, of both orders, and `single-path`. Its row
in `results/search_signal.jsonl` has the losses of the table's genotypes as sub-networks. The found genotype is then
trained for 960 steps at unit gain with the table's five seeds, which no search has used; these rows are in
`results/search_signal_trained.jsonl`. The core hours that are needed are printed first, by the CPU time of a few steps.

Stop it at any time, start it again, or start it twice: each process runs what has no row and is not run by another one.
`--summary` prints for each method how many of the table's random genotypes are worse than those found, and Kendall's τ
of the sub-networks' losses with the table.
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

import rows
import torch
from gain import AFTER, BATCH, HOST, LAYERS, LR, SIZE, attached, load, one, recipe_of
from rows import Row, add_row, has_row, read_rows
from space.cases import SEEDS, blocks
from tables import table
from torch import nn

from sase_attn.lock import Lock
from sase_attn.search import SearchConfig, SearchData, SearchResult, search
from sase_attn.search.shared_weights.halves import divide
from sase_attn.search.shared_weights.loop import Searcher
from sase_attn.search.shared_weights.network import create_supernet
from sase_attn.search.shared_weights.single_path import SinglePathSearcher
from sase_attn.training.checkpoint import NAME as CHECKPOINT
from sase_attn.training.data import DataConfig
from sase_attn.training.data.in_memory import identity_of, memory_loaders
from sase_attn.training.data.order import Shard
from sase_attn.training.data.sets import Arrays
from sase_attn.training.distributed import Ranks

SEARCHES, TRAINED, STEPS = "search_signal", "search_signal_trained", 960
EPOCHS = 10  # of 60 steps each, as half of the training images train the weights
PUBLISHED: dict[str, Any] = {"conv_init": "torch", "hvp": "fd"}
MENDED: dict[str, Any] = {"gate_init": "centred", "last_norm_init": "network", "warmup_epochs": 2}
METHODS: dict[str, dict[str, Any]] = {
    "darts, first order, published": {"order": 1, **PUBLISHED},
    "darts, first order, mended": {"order": 1, **MENDED},
    "darts, second order, published": {"order": 2, **PUBLISHED},
    "darts, second order, mended": {"order": 2, **MENDED},
    "single-path": {
        "method": "single-path",
        "gate_init": "constant",
        "last_norm_init": "network",
        "candidates": 200,
    },
}


def config_of(method: str, seed: int, data: str) -> SearchConfig:
    """The configuration of a search; the stride of the stem is not in it."""
    common = SearchConfig(
        model=HOST["model"],
        model_kwargs=LAYERS,
        after=tuple(AFTER),
        data=data,
        size=SIZE,
        augment="none",
        batch_size=BATCH,
        epochs=EPOCHS,
        lr=LR,
        min_lr=LR / 10,
        alpha_lr=0.02,
        seed=seed,
        log_every=0,
    )
    return common.override(**METHODS[method])


def parts(config: SearchConfig, arrays: Arrays) -> tuple[nn.Module, SearchData]:
    """The super-network with a stem of stride 2, and both halves of the training images."""
    loaders = memory_loaders(arrays, identity_of(arrays), DataConfig.of(config), Shard(config.seed))
    train, test, info = loaders
    model = create_supernet(config, num_classes=len(arrays.classes), in_chans=3)
    model.get_submodule("conv1").stride = (2, 2)  # type: ignore[assignment]
    return model, SearchData(*divide(train, config, Ranks(0, 1, torch.device("cpu"))), test, info)


def searched(method: str, config: SearchConfig, arrays: Arrays, folder: Path) -> Row:
    """Search, or resume the search in a folder; returns its row."""
    model, data = parts(config, arrays)
    resume = (folder / CHECKPOINT).exists()
    start = time.process_time()
    result = search(model, data=data, config=config, output=folder, resume=resume, device="cpu", echo=lambda line: None)
    spent = time.process_time() - start
    return row_of(method, result, *parts(config, arrays)) | {"cpu_seconds": spent, "resumed": resume}


def row_of(method: str, result: SearchResult, model: nn.Module, data: SearchData) -> Row:
    """The row of a search: the found genotype, and the losses of the table's genotypes as sub-networks."""
    scorer = result.scorer(model, data)
    table = [genotype for block in blocks(STEPS) for genotype in block]
    return {
        "label": method,
        "seed": result.config["seed"],
        "genotype": result.genotype,
        "alpha": result.alpha,
        "entropy": result.entropy,
        "losses": {str(genotype): scorer.score(genotype).loss for genotype in table},
        "seconds": result.seconds,
        "config": result.config,
        "machine": result.machine,
        "versions": result.versions,
        "commit": result.commit,
    }


@contextmanager
def claimed(name: str) -> Iterator[bool]:
    """A context that locks a search or training by name, and yields whether no other process runs it."""
    rows.RESULTS.mkdir(exist_ok=True)
    lock = Lock(rows.RESULTS / f".{name}.lock")
    if not lock.acquire(wait=False):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def search_missing(wanted: Iterable[tuple[str, int]], arrays: Arrays, data: str, folder: Path) -> None:
    """Run the searches that have no row."""
    for place, (method, seed) in enumerate(wanted):
        with claimed(f"{SEARCHES}_{place}") as free:
            if free and not has_row(SEARCHES, method, seed):
                row = searched(method, config_of(method, seed, data), arrays, folder / f"{place}-seed{seed}")
                add_row(SEARCHES, row)
                print(f"{method}, seed {seed}: {row['genotype']} in {row['seconds']:.0f} s", flush=True)


def train_missing(arrays: Arrays, data: str) -> None:
    """Train the found genotypes where there is no row, all of them with one seed before the next seed."""
    found = dict.fromkeys(row["genotype"] for row in read_rows(SEARCHES))
    for seed in range(SEEDS):
        for place, genotype in enumerate(found):
            with claimed(f"{TRAINED}_{place}_{seed}") as free:
                if free and not has_row(TRAINED, genotype, seed) and not has_row("space_960", genotype, seed):
                    recipe = recipe_of(genotype, attached(genotype, gain="unit"), seed, STEPS, data)
                    row = one(genotype, recipe, arrays)
                    add_row(TRAINED, row)
                    print(f"{genotype}, seed {seed}: {row['top1']:.2f} % in {row['seconds']:.0f} s", flush=True)


def estimate(wanted: list[tuple[str, int]], arrays: Arrays, data: str) -> list[str]:
    """Lines on what is missing and how many core hours it takes, by the CPU time of three steps of each method."""
    lines, total = [], 0.0
    missing = [(method, seed) for method, seed in wanted if not has_row(SEARCHES, method, seed)]
    for method in dict.fromkeys(method for method, _ in missing):
        count = sum(method == other for other, _ in missing)
        hours = count * _step_seconds(method, arrays, data) * EPOCHS * 60 / 3600
        lines.append(f"{method}: {count} searches, {hours:.2f} core hours")
        total += hours
    seconds = [row["seconds"] for row in read_rows(f"gain_{STEPS}")]
    trainings = SEEDS * len(missing)
    hours = trainings * (mean(seconds) if seconds else 60) / 3600
    return [*lines, f"at most {trainings} trainings, {hours:.2f} core hours", f"in all {total + hours:.1f} core hours"]


def _step_seconds(method: str, arrays: Arrays, data: str) -> float:
    """CPU time of a step after the warm-up epochs, as the mean of two after a first one."""
    config = config_of(method, 0, data)
    kind = SinglePathSearcher if config.method == "single-path" else Searcher
    model, halves = parts(config, arrays)
    made = kind(config, model, halves, Path(), Ranks(0, 1, torch.device("cpu")), echo=lambda line: None)
    made.progress.epoch = config.warmup_epochs
    spent = []
    for batch, _ in zip(made.batches(), range(3), strict=False):
        start = time.process_time()
        made.step(batch)
        spent.append(time.process_time() - start)
    return mean(spent[1:] or spent)


def main() -> None:
    """Search, and train the found genotypes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="CIFAR-10 as an image folder")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="searches of each method")
    parser.add_argument("--only", default="", metavar="TEXT", help="methods whose name contains this")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/search_signal"), metavar="FOLDER")
    parser.add_argument("--estimate", action="store_true", help="say what it takes, and end")
    parser.add_argument("--summary", action="store_true", help="the table of what has rows, and end")
    args = parser.parse_args()
    if args.summary:
        print(table(SEARCHES, read_rows(SEARCHES)))
        return
    if args.data is None:
        parser.error("--data: wanted CIFAR-10 as an image folder")
    torch.set_num_threads(1)
    arrays, data = load(args.data), args.data.name
    wanted = [(method, seed) for seed in range(args.seeds) for method in METHODS if args.only in method]
    print("\n".join(estimate(wanted, arrays, data)), flush=True)
    if args.estimate:
        return
    search_missing(wanted, arrays, data, args.runs)
    train_missing(arrays, data)


if __name__ == "__main__":
    main()
