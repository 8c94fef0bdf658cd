"""`sase-attn run`: run a script of another tool in a process that has registered the models of this package."""

import argparse
import os
import runpy
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from types import TracebackType
from typing import Any

from sase_attn.commands.arguments import add_command


def add_parser(commands: Any) -> None:
    """Add `run` to the subparsers of `sase-attn`."""
    sub = add_command(
        commands, "run", run, "Run a Python script of another tool, which then can make the models of this package."
    )
    sub.usage = "sase-attn run [--import MODULE] SCRIPT [ARGUMENTS]"
    sub.epilog = "torchrun --nproc-per-node 2 -m sase_attn run SCRIPT … runs it on two devices."
    # Script and arguments are one argparse argument: with two, argparse would drop a "--" behind the script.
    sub.add_argument(
        "script",
        nargs=argparse.PARSER,
        metavar="SCRIPT",
        help="a Python file, such as timm's train.py; all that follows is its own",
    )


def run(args: argparse.Namespace) -> None:
    """Run the script as `python SCRIPT ARGUMENTS` would, with the same exit code.

    Raises:
        SystemExit: with the script's own exit code; 1 after an error, whose traceback is the one that Python prints.
        FileNotFoundError: no such script. ValueError: it is not a Python script.
    """
    given = args.script
    if given[0] == "--" and len(given) > 1:  # some versions of Python leave it before the script
        given = given[1:]
    script, *arguments = given
    path = Path(script)
    _check(path)
    with _as_main(path, arguments):
        try:
            runpy.run_path(str(path.absolute()), run_name="__main__")
        except Exception as error:
            error.__traceback__ = _below(error.__traceback__, path.absolute())
            sys.excepthook(type(error), error, error.__traceback__)
            raise SystemExit(1) from None


def _check(path: Path) -> None:
    """Raise an error with a message of one line if a file is not a Python script."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: wanted a script of Python")
    if not path.is_file():
        command = which(path.name) if path.name == str(path) else None
        hint = f"; the command of this name is {command}" if command else ""
        raise FileNotFoundError(f"no such script: {path}{hint}")
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        place = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) and error.lineno else str(error)
        raise ValueError(f"{path} is no script of Python: {place}") from None


@contextmanager
def _as_main(path: Path, arguments: list[str]) -> Iterator[None]:
    """A context in which the process has the arguments and the import path of `python path arguments`."""
    argv, folders = sys.argv, list(sys.path)
    sys.argv = [str(path), *arguments]
    if not sys.flags.safe_path:
        sys.path[:1] = [os.path.dirname(os.path.realpath(path))]
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, folders


def _below(trace: TracebackType | None, path: Path) -> TracebackType | None:
    """The part of a traceback that starts in the script; all of it if the script is not in it."""
    inner = trace
    while inner is not None and traceback.extract_tb(inner, limit=1)[0].filename != str(path):
        inner = inner.tb_next
    return inner or trace
