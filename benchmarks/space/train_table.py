"""Train the table for testing search methods: 28 genotypes of four balanced blocks with five seeds, and controls.

    python benchmarks/space/train_table.py --data FOLDER --steps 960 [--blocks 2]

`FOLDER` is CIFAR-10 as an image folder; the setting is that of `gain.py`, at unit gain. 960 steps take about a minute
of one core. With 3,840 steps it trains the first ten genotypes. Stop it at any time, start it again, or start it twice:
each process runs the next training that has no row in `results/space_STEPS.jsonl` and that no other process runs. For
controls that `gain.py` has trained by the same recipe, its rows are used.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import rows
from gain import load, one
from rows import add_row, has_row

from sase_attn.lock import Lock
from sase_attn.training.data.sets import Arrays
from space.cases import GENOTYPES, Case, cases, slim, study, trained_before


def train_missing(steps: int, todo: list[Case], arrays: Arrays) -> None:
    """Run the trainings that have no row and that no other process runs.

    Args:
        steps: the number of steps of a training.
        todo: the trainings, in their order.
        arrays: the images.
    """
    for place, case in enumerate(todo):
        if has_row(study(steps), case.label, case.recipe.seed):
            continue
        lock = _lock(f"{study(steps)}_{place}")
        if not lock.acquire(wait=False):
            continue
        try:
            if has_row(study(steps), case.label, case.recipe.seed):
                continue  # another process has trained it meanwhile
            row = trained_before(case, steps) or slim(one(case.label, case.recipe, arrays), case)
            add_row(study(steps), row)
        finally:
            lock.release()
        print(f"{case.label}, seed {row['seed']}: {row['top1']:.2f} % in {row['seconds']:.0f} s", flush=True)


def _lock(name: str) -> Lock:
    rows.RESULTS.mkdir(exist_ok=True)
    return Lock(rows.RESULTS / f".{name}.lock")


def main() -> None:
    """Run the trainings that have no row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="CIFAR-10 as an image folder")
    parser.add_argument("--steps", type=int, default=960, choices=GENOTYPES, help="of a training")
    parser.add_argument("--blocks", type=int, metavar="N", help="only the first ones, of seven genotypes each")
    args = parser.parse_args()
    torch.set_num_threads(1)
    train_missing(args.steps, list(cases(args.steps, args.data.name, args.blocks)), load(args.data))


if __name__ == "__main__":
    main()
