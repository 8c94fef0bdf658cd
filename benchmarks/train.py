"""Train the cases of a study, and write a JSON row for each finished run to `benchmarks/results/STUDY.jsonl`.

    python benchmarks/train.py embedded [--jobs 2] [--only TEXT]
    python benchmarks/train.py cifar10_jpeg --data FOLDER [--epochs 100 --seeds 3]

Stop it at any time: started again, it resumes interrupted runs and skips those with a row. With `--jobs` several runs
share the cores, each with its part of the threads; the times in the rows are then those of a shared machine.
"""

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import studies
from rows import add_row, read_rows

from sase_attn.training.jobs import train_in_subprocess
from sase_attn.training.recipes import Recipe


def run(label: str, recipe: Recipe, folder: Path, threads: int) -> dict[str, Any]:
    """Train one run to its end in a process of its own, and return its row. Raises ChildProcessError if it fails."""
    row = asdict(train_in_subprocess(recipe, folder, threads))
    del row["output"]
    for name in ("data", "init_from"):  # keep the name of a file, but not its folder
        row["recipe"][name] = row["recipe"][name] and Path(row["recipe"][name]).name
    return {"label": label, "seed": recipe.seed, **row}


def run_study(study: str, cases: Sequence[studies.Case], args: argparse.Namespace, **values: dict[str, Any]) -> None:
    """Run the trainings without a row, all cases with one seed before the next; `values` are added to rows by label."""
    done = {(row["label"], row["seed"]) for row in read_rows(study)}
    todo = [
        (case.label, case.recipe.override(seed=seed))
        for seed in range(max(case.seeds for case in cases))
        for case in cases
        if args.only in case.label and seed < case.seeds and (case.label, seed) not in done
    ]
    threads = args.threads or max(1, (os.cpu_count() or 1) // args.jobs)
    with ThreadPoolExecutor(args.jobs) as pool:
        started = []
        for label, recipe in todo:
            name = f"{label}-seed{recipe.seed}".replace(", ", "-").replace(" ", "_")
            started.append(pool.submit(run, label, recipe, args.runs / study / name, threads))
        for finished in as_completed(started):
            row = finished.result()
            add_row(study, row | {name: by_label[row["label"]] for name, by_label in values.items()})
            print(f"{row['label']}, seed {row['seed']}: {row['top1']:.2f} % in {row['seconds']:.0f} s", flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that every study has."""
    parser.add_argument("--only", default="", metavar="TEXT", help="labels that contain this")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, metavar="N", help="of each run (default: the cores, shared out)")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"), metavar="FOLDER")


def main() -> None:
    """Run the trainings of a study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=["embedded", "cifar10_jpeg"])
    parser.add_argument("--data", metavar="FOLDER", help="of cifar10_jpeg: train/ and test/, a folder a class")
    parser.add_argument("--epochs", type=int, default=5, help="of cifar10_jpeg")
    parser.add_argument("--seeds", type=int, default=1, help="of cifar10_jpeg")
    add_arguments(parser)
    args = parser.parse_args()
    if args.study == "cifar10_jpeg" and not args.data:
        parser.error("cifar10_jpeg needs --data FOLDER")
    cases = studies.embedded() if args.study == "embedded" else studies.cifar10_jpeg(args.data, args.epochs, args.seeds)
    run_study(args.study, cases, args)


if __name__ == "__main__":
    main()
