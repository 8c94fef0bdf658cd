"""The log of a search as its report reads it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sase_attn.training import log

Rows = Sequence[dict[str, Any]]


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of the log of the search in a folder, each with its `place` in epochs."""
    rows = [json.loads(line) for line in (folder / log.NAME).read_text(encoding="utf-8").splitlines()]
    steps = max((row["step"] for row in rows), default=1) or 1
    return [row | {"place": row["epoch"] + row["step"] / steps} for row in rows]
