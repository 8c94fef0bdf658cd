"""`read_log`: the log of a search, in the form that its report reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sase_attn.files import read_json_lines
from sase_attn.training import log

Rows = Sequence[dict[str, Any]]


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of the log of the search in a folder, each with its `place` in epochs.

    Raises:
        OSError: it cannot be read. ValueError: a line is not one of a log. A last line that was cut off is ignored.
    """
    rows = read_json_lines(folder / log.NAME, _row)
    steps = max((row["step"] for row in rows), default=1) or 1
    return [row | {"place": row["epoch"] + row["step"] / steps} for row in rows]


def _row(value: Any) -> dict[str, Any]:
    if not (isinstance(value, dict) and all(isinstance(value.get(key), int) for key in ("epoch", "step"))):
        raise ValueError("wanted a JSON object with epoch and step")
    return value
