"""Speed of the block, of the tail of a residual block, and of ResNet-50 with attention, relative to a copy of the map.

    python benchmarks/speed.py                  on the CPU, about 10 minutes with compilation
    python benchmarks/speed.py --device cuda    checks the kernels first; ends within 8 minutes

It measures float32 on the CPU, bfloat16 on CUDA. `--only "block 56x56 NCHW forward"` measures the groups with all of
these words (levels: block, tail, model). All variants of a shape, layout and mode run in turn, round by round, in one
process, and so does a copy of the map. A forward pass keeps no graph; the block is in training mode, the tail and the
network in eval mode. With the backward pass all are in training mode. Rows are in `results/speed.jsonl`. Those of the
same machine, versions and commit are kept, so that a command that was stopped, by Ctrl-C or its limit, continues when
given again.
"""

import argparse
import os
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import timm
import torch
from rows import Row, put_rows, read_rows
from speed_check import check
from speed_groups import DTYPES, Group, groups, measure

from sase_attn import __version__
from sase_attn.training.provenance import commit, machine

STUDY = "speed"
LIMIT_S = {"cpu": 600.0, "cuda": 440.0}
NOISY = 0.15
"""Distance of the quartiles, relative to the lower one, from which on a group is called noisy."""
ROUNDS = {"block": 10, "tail": 10, "model": 5}


def regime(device: str) -> Row:
    """The regime of the numbers: machine, device, versions and commit."""
    allocator = [f"{name}={os.environ[name]}" for name in sorted(os.environ) if name.startswith("MALLOC_")]
    preloaded = [Path(path).name for path in os.environ.get("LD_PRELOAD", "").replace(":", " ").split()]
    return {
        "machine": machine() if device == "cpu" else torch.cuda.get_device_name(),
        "versions": {"sase_attn": __version__, "timm": timm.__version__, "torch": torch.__version__}
        | ({"cuda": torch.version.cuda} if device == "cuda" else {}),
        "dtype": str(DTYPES[device]).removeprefix("torch."),
        "allocator": " ".join([*allocator, *preloaded]) or "default",
        "commit": commit(),
    }


def done(group: Group, rows: list[Row], here: Row) -> bool:
    """Whether a group has the rows of all its variants in this regime."""
    mine = [row for row in rows if is_of(group, row)]
    return bool(mine) and all(row["complete"] and _key(row) == _key(here) for row in mine)


def is_of(group: Group, row: Row) -> bool:
    """Whether a row belongs to a group."""
    return str(row["label"]).startswith(f"{group}: ")


def chosen(device: str, only: str, parser: argparse.ArgumentParser) -> list[Group]:
    """The groups that have every word of `only`."""
    every = groups(device)
    known = set().union(*(group.words for group in every))
    for word in only.split():
        if word not in known:
            parser.error(f"--only {word!r}: the words are {', '.join(sorted(known))}")
    return [group for group in every if group.words.issuperset(only.split())]


def _key(row: Row) -> list[object]:
    """The values that rows of one regime share; uncommitted changes, such as these rows, are ignored."""
    values = [row[name] for name in ("machine", "versions", "dtype", "allocator")]
    return [*values, str(row["commit"]).removesuffix("-dirty")]


def show(row: Row) -> None:
    """Print a row in one line."""
    if "ms" not in row:
        return
    parts = [f"{row['variant']:24} {row['ms']:9.3f} ms ±{50 * (row['ms_high'] - row['ms_low']) / row['ms']:3.0f} %"]
    parts.append(f"{row['copies']:7.2f} copies")
    units = {"percent_of_copy": "% of copy", "passes": "passes", "peak_maps": "N peak", "saved_maps": "N saved"}
    parts += [f"{row[key]:6.1f} {unit}" for key, unit in units.items() if key in row]
    print("  ", "  ".join(parts), flush=True)


def main() -> None:
    """Check the kernels, measure the groups without rows, and write rows group by group."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=LIMIT_S, default="cpu")
    parser.add_argument("--only", default="", metavar="WORDS")
    parser.add_argument("--rounds", type=int, help="of all levels; by default 10, and 5 of whole networks")
    parser.add_argument("--seconds", type=float, help="stop measuring after so long: 600, on CUDA 440")
    parser.add_argument("--again", action="store_true", help="measure anew what has its rows")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda needs a CUDA device, and torch finds none; without it the CPU is measured")
    wanted = chosen(args.device, args.only, parser)
    here = regime(args.device)
    deadline = started + (LIMIT_S[args.device] if args.seconds is None else args.seconds)
    wanted = [group for group in wanted if args.again or not done(group, read_rows(STUDY), here)]
    if not wanted:
        print("every group has its rows; --again measures them anew")
        return
    check(args.device, *(("triton",) if args.device == "cuda" else ("auto", (torch.float32,))))
    for number, group in enumerate(wanted):
        if time.monotonic() > deadline:
            print(f"stopped at the limit; {len(wanted) - number} of {len(wanted)} groups are left: run it again")
            return
        print(f"{time.monotonic() - started:4.0f} s: {group}", flush=True)
        rows = measure(group, args.rounds or ROUNDS[group.level], deadline)
        if rows:
            put_rows(STUDY, [row | here for row in rows], partial(is_of, group))
        for row in rows:
            show(row)
        spread = [row["ms_high"] / row["ms_low"] - 1 for row in rows if "ms" in row]
        if spread and statistics.median(spread) > NOISY:
            print("   the machine was not quiet: measure this again")


if __name__ == "__main__":
    main()
