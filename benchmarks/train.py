"""Train the cases of a study, and write a JSON row for each finished run to `benchmarks/results/STUDY.jsonl`.

    python benchmarks/train.py embedded [--jobs 2] [--only TEXT] [--runs runs/benchmarks]
    python benchmarks/train.py cifar10_jpeg --data FOLDER [--epochs 100 --seeds 3]

Stop it at any time: started again, it resumes what was interrupted and leaves what has its row. Runs go beside each
other in `--jobs` processes that share the cores; the times in the rows are then those of a shared machine.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import studies
from sase_attn.training.recipes import Recipe
from sase_attn.training.result import write_text

RESULTS = Path(__file__).parent / "results"


def read_rows(study: str, results: Path = RESULTS) -> list[dict[str, Any]]:
    """The rows of a study, none where it has no file."""
    path = results / f"{study}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def add_row(study: str, row: dict[str, Any], results: Path = RESULTS) -> None:
    """Add a row, in the place of one with the same label and seed; rows stay in the order of label and seed."""
    kept = [old for old in read_rows(study, results) if (old["label"], old["seed"]) != (row["label"], row["seed"])]
    rows = sorted([*kept, row], key=lambda r: (r["label"], r["seed"]))
    results.mkdir(exist_ok=True)
    write_text(results / f"{study}.jsonl", "".join(json.dumps(r) + "\n" for r in rows))


def run(label: str, recipe: Recipe, folder: Path, threads: int) -> dict[str, Any]:
    """Train one run to its end in a process of its own, and return its row. Raises CalledProcessError if it fails."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.parent / f"{folder.name}.json"
    file.write_text(recipe.to_json())
    command = [sys.executable, "-m", "sase_attn", "train", "--recipe", str(file), "--output", str(folder)]
    if (folder / "checkpoint.pt").exists():
        command.append("--resume")
    with (folder.parent / f"{folder.name}.log").open("a") as log:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)
    result = json.loads((folder / "result.json").read_text())
    result["recipe"]["data"] = Path(result["recipe"]["data"]).name
    return {"label": label, "seed": recipe.seed, **{k: v for k, v in result.items() if k != "output"}}


def main() -> None:
    """Train what has no row yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=["embedded", "cifar10_jpeg"])
    parser.add_argument("--data", metavar="FOLDER", help="of cifar10_jpeg: train/ and test/, a folder a class")
    parser.add_argument("--epochs", type=int, default=5, help="of cifar10_jpeg")
    parser.add_argument("--seeds", type=int, default=1, help="of cifar10_jpeg")
    parser.add_argument("--only", default="", metavar="TEXT", help="labels that contain this")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"), metavar="FOLDER")
    args = parser.parse_args()
    if args.study == "cifar10_jpeg" and not args.data:
        parser.error("cifar10_jpeg needs --data FOLDER")
    cases = studies.embedded() if args.study == "embedded" else studies.cifar10_jpeg(args.data, args.epochs, args.seeds)
    done = {(row["label"], row["seed"]) for row in read_rows(args.study)}
    todo = [
        (case.label, case.recipe.override(seed=seed))
        for seed in range(max(case.seeds for case in cases))  # all cases with one seed before the next seed
        for case in cases
        if args.only in case.label and seed < case.seeds and (case.label, seed) not in done
    ]
    threads = max(1, (os.cpu_count() or 1) // args.jobs)
    with ThreadPoolExecutor(args.jobs) as pool:
        folders = [args.runs / args.study / f"{label}-seed{recipe.seed}".replace(", ", "-").replace(" ", "_")
                   for label, recipe in todo]  # fmt: skip
        rows = pool.map(lambda one: run(*one[0], one[1], threads), zip(todo, folders, strict=True))
        for row in rows:
            add_row(args.study, row)
            print(f"{row['label']}, seed {row['seed']}: {row['top1']:.2f} % in {row['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
