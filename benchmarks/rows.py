"""Rows of results: JSON lines in `benchmarks/results/STUDY.jsonl`, one for each run, sorted by label and seed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sase_attn.files import write_atomically
from sase_attn.lock import Lock, held
from sase_attn.training.provenance import commit, device_name, machine, versions

RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


def origin(device: str = "cpu") -> Row:
    """What a row says of where it comes from: the processor or the CUDA device, the versions, the commit."""
    where = machine() if device == "cpu" else device_name(torch.device(device))
    return {"machine": where, "versions": versions(), "commit": commit()}


def read_rows(study: str) -> list[Row]:
    """The rows of a study; an empty list if it has no file."""
    path = RESULTS / f"{study}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def has_row(study: str, label: str, seed: int) -> bool:
    """Whether a study has a row of a label and a seed."""
    return any((row["label"], row["seed"]) == (label, seed) for row in read_rows(study))


def add_row(study: str, row: Row) -> None:
    """Add a row, or replace the one with the same label and seed, while holding the lock of the file."""
    RESULTS.mkdir(exist_ok=True)
    with held(Lock(RESULTS / f".{study}.lock")):
        kept = [old for old in read_rows(study) if (old["label"], old["seed"]) != (row["label"], row["seed"])]
        rows = sorted([*kept, row], key=lambda r: (r["label"], r["seed"]))
        write_atomically(RESULTS / f"{study}.jsonl", "".join(json.dumps(r) + "\n" for r in rows))


def put_rows(study: str, new: list[Row], replaces: Callable[[Row], bool]) -> None:
    """Write new rows in one go, at the place of the rows that they replace, or else at the end."""
    old = read_rows(study)
    place = next((index for index, row in enumerate(old) if replaces(row)), len(old))
    before, after = ([row for row in part if not replaces(row)] for part in (old[:place], old[place:]))
    RESULTS.mkdir(exist_ok=True)
    write_atomically(RESULTS / f"{study}.jsonl", "".join(json.dumps(row) + "\n" for row in [*before, *new, *after]))
