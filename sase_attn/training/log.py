"""`log.jsonl`: one JSON object in each line, for each logged step and each epoch of a run."""

import json
import os
from pathlib import Path
from typing import Any

from sase_attn.files import naming

NAME = "log.jsonl"
# Keys that differ even if two runs compute the same numbers.
TIMED = ("images_per_second", "eta_seconds", "peak_memory_mb", "seconds")


class Log:
    """The open `log.jsonl` of a run. A resumed run first removes the lines that came after its checkpoint."""

    def __init__(self, folder: Path, keep_bytes: int) -> None:
        self._path = folder / NAME
        self._file = open(self._path, "ab")  # noqa: SIM115 (closed by `close`, kept open for a run)
        kept = self._path.read_bytes()[:keep_bytes]
        self._file.truncate(kept.rfind(b"\n") + 1)  # not at `keep_bytes`, which may be beyond the end

    def write(self, **values: Any) -> None:
        """Append a line, and flush it."""
        with naming(self._path):
            self._file.write(json.dumps(values).encode() + b"\n")
            self._file.flush()

    def sync(self) -> int:
        """Force the lines to disk; returns the length in bytes, for the checkpoint."""
        with naming(self._path):
            os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        with naming(self._path):
            self._file.close()
