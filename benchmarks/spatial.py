"""Spatially-adaptive SE instead of 3×3 convolutions, beside SE and SASE at unit gain: short trainings of paired seeds.

    python benchmarks/spatial.py --data FOLDER [--seeds 5]

`FOLDER` is CIFAR-10 as an image folder. Stop it at any time: started again, it trains what has no row in
`results/spatial.jsonl` yet, all networks with one seed before the next seed. `tables.py` makes the table.

The setting is that of `gain.py` at 960 steps, except for the network. Spatially-adaptive SE replaces the 3×3
convolution of a bottleneck, so that all networks are made of bottlenecks, one in each stage. Networks of a seed start
with the same weights in layers that they share, and see the same batches.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gain import load, one, recipe_of
from rows import add_row, read_rows

from sase_attn.comparison.networks import PLAIN

STUDY, STEPS = "spatial", 960
ARGUMENTS = {"layers": [1, 1, 1], "block": "bottleneck"}
HOST = {"model": "resnet20_cifar", **ARGUMENTS}
ATTACHED = {**ARGUMENTS, "base": HOST["model"]}
BEHIND = {**ATTACHED, "after": ["layer*.*.bn3"], "gain": "unit"}
NETWORKS: dict[str, dict[str, Any]] = {
    PLAIN: {"model": HOST["model"], "model_kwargs": ARGUMENTS},
    "SE, unit gain": {"model": "attached", "model_kwargs": {**BEHIND, "attn": "se"}},
    "SASE, unit gain": {"model": "attached", "model_kwargs": {**BEHIND, "attn": "sase"}},
    "spatially-adaptive SE": {
        "model": "attached",
        "model_kwargs": {**ATTACHED, "replace": "conv3x3", "attn": "spatial_sase"},
    },
}


def todo(seeds: int) -> Iterator[tuple[str, int]]:
    """Label and seed of each training without a row, all networks with one seed before the next seed."""
    done = {(row["label"], row["seed"]) for row in read_rows(STUDY)}
    for seed in range(seeds):
        yield from ((label, seed) for label in NETWORKS if (label, seed) not in done)


def main() -> None:
    """Run the trainings that have no row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="CIFAR-10 as an image folder")
    parser.add_argument("--seeds", type=int, default=5, metavar="N")
    args = parser.parse_args()
    arrays = load(args.data)
    for label, seed in todo(args.seeds):
        recipe = recipe_of(label, NETWORKS[label], seed, STEPS, args.data.name)
        row = one(label, recipe.override(start_as={} if label == PLAIN else HOST), arrays)
        add_row(STUDY, row)
        print(f"{label}, seed {seed}: {row['top1']:.2f} % in {row['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
