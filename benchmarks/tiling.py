"""Accuracy of trained squeeze-and-excitation networks after tiling, without retraining (arXiv 2107.02145).

    python benchmarks/tiling.py RUN [RUN ...] [--data FOLDER] [--device cuda]

RUN is the folder of a finished `sase-attn train`. Every run's network is evaluated on the test images of its data
without tiles, and tiled in several ways: in rows of several heights, in squares, and in the first modules only. One row
for each is written to `benchmarks/results/tiling.jsonl`. What has a row is skipped, so that an interrupted study can be
resumed.
"""

import argparse
import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rows import Row, add_row, read_rows
from torch import nn

from sase_attn.tiling import BufferingReport, buffering
from sase_attn.tiling.convert import tile
from sase_attn.training.data.normalise import normalise_as_trained
from sase_attn.training.distributed import ranks
from sase_attn.training.evaluate import Metrics, evaluate
from sase_attn.training.loading import load_network, recipe_of
from sase_attn.training.provenance import provenance
from sase_attn.training.recipes import Recipe
from sase_attn.training.run import open_recipe_data

STUDY = "tiling"
HEIGHTS = (1, 2, 4, 7, 14, None)
"""Heights of tiles; None is the height of the map, which is plain squeeze-and-excitation."""
FIRST_HEIGHTS = (1, 2, 4, 7)
"""Heights of tiles if only the first modules are tiled."""


@dataclass(frozen=True)
class Case:
    """How a network is tiled: rows and columns (None: the whole extent), and how many of its modules (None: all)."""

    rows: int | None
    columns: int | None = None
    first: int | None = None

    def __str__(self) -> str:
        shape = (
            "full" if self.rows is None else f"{self.rows} rows" if self.columns is None else f"{self.rows}×{self.rows}"
        )
        return shape if self.first is None else f"{shape}, first {self.first}"


def cases(modules: int) -> Iterator[Case]:
    """Rows and squares in all modules, and rows in the first 1, 2, 4, … modules."""
    for height in HEIGHTS:
        yield Case(height)
    for height in HEIGHTS[:-1]:
        yield Case(height, height)
    first = 1
    while first < modules:
        for height in FIRST_HEIGHTS:
            yield Case(height, first=first)
        first *= 2


def tiled(model: nn.Module, case: Case) -> nn.Module:
    """A tiled copy of a network. If one tile is the whole map, `TiledSE` is used, too."""
    twin = copy.deepcopy(model)
    tile(twin, case.rows or 1_000_000, case.columns, count=case.first)
    return twin


def signature(report: BufferingReport) -> tuple[tuple[int, int], ...]:
    """The sizes of the tiles on the maps of a report. Cases with the same sizes compute the same."""
    return tuple(
        (min(block.tile[0] or block.height, block.height), min(block.tile[1] or block.width, block.width))
        for block in report.blocks
    )


def study(run: Path, recipe: Recipe, device: str | None) -> None:
    """Add the missing rows of a run, and print a line for each."""
    network = f"{recipe.model} on {Path(recipe.data).name}"
    known = {(row["label"], row["seed"]) for row in read_rows(STUDY)}
    with ranks(device) as group:
        train_batches, tests, info = open_recipe_data(recipe, group)
        loaded = load_network(str(run), recipe, classes=info.classes, in_chans=info.channels)
        model = loaded.model
        if loaded.is_normalised:
            _, tests, _ = normalise_as_trained(model, (train_batches, tests), info)
        before: Metrics | None = None
        done: dict[tuple[tuple[int, int], ...], Metrics] = {}
        whole = buffering(tiled(model, Case(None)), info.size)
        for case in cases(len(whole.blocks)):
            label = f"{network}, {case}"
            if (label, recipe.seed) in known:
                continue
            if before is None:  # the network without tiles
                before = evaluate(model.to(group.device), loaded.targets(tests.epoch(0)), group)
                model.cpu()
            twin = tiled(model, case)
            report = buffering(twin, info.size)
            key = signature(report)
            if key not in done:
                done[key] = evaluate(twin.to(group.device), loaded.targets(tests.epoch(0)), group)
            add_row(STUDY, row(label, network, case, recipe, report, before, done[key], str(group.device)))
            print(f"{label}: {before.top1:.2f} % → {done[key].top1:.2f} %, {-report.saving:+.1f} % held", flush=True)


def row(
    label: str,
    network: str,
    case: Case,
    recipe: Recipe,
    report: BufferingReport,
    before: Metrics,
    after: Metrics,
    device: str,
) -> Row:
    """One line of results."""
    shown = asdict(recipe)
    for name in ("data", "init_from"):  # keep the name of a file, but not its folder
        shown[name] = shown[name] and Path(shown[name]).name
    return {
        "label": label,
        "seed": recipe.seed,
        "network": network,
        **asdict(case),
        "modules": len(report.blocks),
        "before_top1": before.top1,
        "before_loss": before.loss,
        **asdict(after),
        "size": report.size,
        "se_activations": report.se,
        "tiled_activations": report.tiled,
        "recipe": shown,
        **provenance(torch.device(device)),
    }


def main() -> None:
    """Evaluate every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--data", metavar="FOLDER", help="where the runs' data is now, if it has moved")
    parser.add_argument("--workers", type=int, default=0, help="processes that load images")
    parser.add_argument("--device", help="cpu, cuda or cuda:N")
    args = parser.parse_args()
    for run in args.runs:
        recipe = recipe_of(str(run))
        if recipe is None:
            parser.error(f"{run} is no folder of a run: it has no recipe.json")
        changes = {"data": args.data} if args.data else {}
        study(run, recipe.override(workers=args.workers, **changes), args.device)


if __name__ == "__main__":
    main()
