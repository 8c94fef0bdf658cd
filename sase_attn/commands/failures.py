"""`report`: print an error in one line on stderr; the traceback of an unexpected error is written to a file."""

import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from safetensors import SafetensorError

from sase_attn import share
from sase_attn.errors import UnknownNameError, in_words
from sase_attn.training.distributed import OtherRankError

PACKAGE = Path(__file__).parents[1]

TRACEBACK = "SASE_ATTN_TRACEBACK"
"""The environment variable by which unexpected errors are raised with their traceback, for developers."""

_EXPECTED = (ValueError, OSError, ImportError, FloatingPointError, SafetensorError, share.HubError)


def report(error: Exception) -> int:
    """Print an error in one line, and return the exit code: 2 for unknown names, otherwise 1."""
    if isinstance(error, OtherRankError):
        return 1  # that rank reports it
    if _is_memory(error):
        _say(f"out of memory: {in_words(error)}; try a smaller --batch-size, or smaller images")
    elif isinstance(error, _EXPECTED):
        _say(_words(error))
    elif os.environ.get(TRACEBACK):
        raise error
    else:
        _say(f"internal error: {type(error).__name__}: {' '.join(str(error).split())[:500]}; {_write_trace(error)}")
    return 2 if isinstance(error, UnknownNameError) else 1


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """A context in which warnings of this package are printed in one line, without their place in the source."""
    before = warnings.formatwarning

    def shown(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if Path(filename).is_relative_to(PACKAGE):
            return f"sase-attn: warning: {' '.join(str(message).split())}\n"
        return before(message, category, filename, lineno, line)

    warnings.formatwarning = shown
    try:
        yield
    finally:
        warnings.formatwarning = before


def _say(line: str) -> None:
    with suppress(OSError):  # stderr may be closed
        print(f"sase-attn: error: {line}", file=sys.stderr)


def _words(error: Exception) -> str:
    """The message of an error without line breaks; for an OSError, the file and the reason."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return in_words(error)


def _is_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


def _write_trace(error: Exception) -> str:
    """Write the traceback to a temporary file; returns a sentence on where it is."""
    try:
        file, name = tempfile.mkstemp(prefix="sase-attn-", suffix=".txt", text=True)
        with os.fdopen(file, "w", encoding="utf-8", errors="replace") as trace:
            trace.write("".join(traceback.format_exception(error)))
    except OSError as problem:
        return f"its trace could not be written ({problem.strerror}): run again with {TRACEBACK}=1"
    return f"the trace is in {name}"
