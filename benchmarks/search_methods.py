"""True gains of search methods in replays, on simulated worlds and on worlds drawn given the table of `space/`.

    python benchmarks/search_methods.py [--only TEXT]

Rows are in `results/search_methods.jsonl`; `tables.py` makes the table. A row is for a method with a number of
trainings in worlds of a kind, which are the same worlds for every method. It takes a few minutes of one core, most of
them for TPE.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial

import torch
from rows import Row, origin, put_rows

from sase_attn.search.methods import METHODS
from sase_attn.search.replay import SpaceTable, World, replay, world_at
from sase_attn.search.replay.table import PATH
from sase_attn.search.space import SearchSpace

STUDY = "search_methods"
TRAININGS = (10, 20, 42, 84)
ICCS = (0.0, 0.1, 0.3, 0.6)
WORLDS = {"tpe": 40}
MANY = 120
"""Number of worlds of a row, except for the methods of `WORLDS`."""
FEW = 10
"""Number of worlds in which all genotypes are equal, where the gain of every method is 0."""


def worlds() -> dict[str, Callable[[int], World]]:
    """Functions that make a world from a key, by the kind of world."""
    space = SearchSpace.get("release")

    def simulated(key: int, icc: float) -> World:
        return world_at(space, icc, key=key)

    made: dict[str, Callable[[int], World]] = {f"ICC {icc:g}": partial(simulated, icc=icc) for icc in ICCS}
    lengths = json.loads(PATH.read_text(encoding="utf-8"))
    return made | {f"table, {int(steps):,} steps": SpaceTable.load(int(steps)).world for steps in lengths}


def row_of(method: str, kind: str, world: Callable[[int], World], trainings: int) -> Row:
    """The row of a method in the worlds of a kind."""
    count = FEW if kind == "ICC 0" else WORLDS.get(method, MANY)
    found = [replay(method, world(key), trainings, seed=key) for key in range(count)]
    return {
        "label": method,
        "world": kind,
        "trainings": trainings,
        "cost": max(result.cost for result in found),
        "gains": [round(result.gain, 3) for result in found],
        **origin(),
    }


def main() -> None:
    """Replay all methods."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="kinds of worlds that contain this")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for kind, world in worlds().items():
        if args.only in kind:
            new = [row_of(method, kind, world, count) for method in METHODS for count in TRAININGS]
            put_rows(STUDY, new, lambda row, kind=kind: row["world"] == kind)  # type: ignore[misc]
            print(f"{kind}: {len(new)} rows", flush=True)


if __name__ == "__main__":
    main()
