"""Rows of finished few-shot synthesis: scores of the averaged generator at the end, and of the raw one early on.

    python benchmarks/synthesis.py RUN [RUN ...] [--early 100] [--sheets FOLDER]

RUN is the folder of a finished `sase-attn synthesize train`. One row for each is written to
`benchmarks/results/synthesis.jsonl`. It holds the KID of the generator's raw weights at the step `--early`, at which
there must be a sheet, and the scores of the averaged weights at the last step, all against the training images; and FID
with its floor, computed again. `--sheets` is a folder for copies of each run's last sheet of samples, and of the sheet
of samples above their nearest training images.
"""

import argparse
import json
import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rows import Row, add_row

from sase_attn.spatially_adaptive.synthesis.evaluate import evaluate_generator
from sase_attn.spatially_adaptive.synthesis.result import read_result
from sase_attn.spatially_adaptive.synthesis.sheets import save_png

STUDY = "synthesis"
COUNT = 100  # number of samples for the scores that are computed here


def row_of(run: Path, early: int, sheets: Path | None) -> Row:
    """The row of a finished run. Raises ValueError for an unfinished one, or without a sheet at the early step."""
    result = read_result(run)
    if result is None:
        raise ValueError(f"{run} is not finished: go on with sase-attn synthesize train --output {run} --resume")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = {_step(row, result.config): row for row in log if row["kind"] == "sheet"}
    if early not in rows or result.steps not in rows or "raw_scores" not in rows[early]:
        steps = ", ".join(map(str, rows)) or "none"
        raise ValueError(f"{run}: wanted scores at the steps {early} and {result.steps}, got those at {steps}")
    losses = [value for row in log if row["kind"] == "step" for value in _losses(row)]
    extractor = {name: result.config[name] for name in ("extractor", "extractor_weights")}
    found = evaluate_generator(run, weights="last", count=COUNT, device="cpu", **extractor)
    if sheets is not None:
        sheets.mkdir(parents=True, exist_ok=True)
        shutil.copy(run / "samples" / f"step-{result.steps:06d}.png", sheets / f"{run.name}.png")
        save_png(found.sheet, sheets / f"{run.name}-neighbours.png")
    return {
        "label": result.config["skip"],
        "seed": result.config["seed"],
        "config": result.config | {"images": Path(result.config["images"]).name},
        "steps": result.steps,
        "parameters": result.parameters,
        "early": early,
        "early_raw": rows[early]["raw_scores"],
        "early_average": rows[early]["scores"],
        "scores": rows[result.steps]["scores"],
        "kids": {step: row["scores"]["kid"] for step, row in rows.items()},
        "best_kid": result.best_kid,
        "best_step": result.best_step,
        "evaluated": asdict(found.scores),
        "finite": all(map(math.isfinite, losses)),
        "images": result.data.train_count,
        "seconds": result.seconds,
        "machine": result.machine,
        "device": result.device,
        "versions": result.versions,
        "commit": result.commit,
    }


def _step(row: dict[str, Any], config: dict[str, Any]) -> int:
    """The step after which a line of the log was written."""
    return row["epoch"] * min(config["sample_every"], config["steps"]) + row["step"]


def _losses(row: dict[str, Any]) -> list[float]:
    return [row[name] for name in ("real", "made", "reconstruction", "generator")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--early", type=int, default=100, metavar="STEP")
    parser.add_argument("--sheets", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    for run in args.runs:
        row = row_of(run, args.early, args.sheets)
        add_row(STUDY, row)
        print(f"{run.name}: KID {row['scores']['kid']:.4f}, raw at step {args.early} {row['early_raw']['kid']:.4f}")


if __name__ == "__main__":
    main()
