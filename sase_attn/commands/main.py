"""The command `sase-attn`: it parses arguments, runs one subcommand, and prints an error in one line on stderr.

Exit codes: 0 for success; 1 for errors; 2 for usage and unknown names; 130 for Ctrl-C; 141 for a reader that is gone.
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from sase_attn import __version__
from sase_attn.commands import (
    compare,
    detect,
    evaluate,
    import_weights,
    list_contents,
    predict,
    push,
    run_script,
    search,
    show,
    signal,
    synthesize,
    tile,
    train,
)
from sase_attn.commands.failures import report, warnings_in_one_line
from sase_attn.errors import unknown_name
from sase_attn.imports import import_modules

COMMANDS = (
    list_contents,
    show,
    import_weights,
    push,
    run_script,
    train,
    evaluate,
    predict,
    compare,
    signal,
    search,
    tile,
    synthesize,
    detect,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the given arguments, by default those of the process, and return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # definitions hold symbols that some terminals' encodings lack
    try:
        args = _parser().parse_args(argv)
        import_modules(getattr(args, "imports", ()))  # before names are looked up
        with warnings_in_one_line():
            args.run(args)
        sys.stdout.flush()
    except SystemExit as exit:  # from argparse, after --help, --version and usage errors; or from a script
        return _exit_code(exit)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader is gone, so the interpreter must not flush into the pipe again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        return report(error)
    return 0


def _exit_code(exit: SystemExit) -> int:
    """The exit code, as Python determines it: what is not a number is printed."""
    if exit.code is None or isinstance(exit.code, int):
        return exit.code or 0
    print(exit.code, file=sys.stderr)
    return 1


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the nearest names for unknown commands and choices."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"sase-attn: error: {message} (see {self.prog} --help)\n")

    def parse_known_args(self, *given: Any, **options: Any) -> Any:
        """As in argparse, but unknown arguments are an error of the subcommand that they were given to."""
        namespace, unknown = super().parse_known_args(*given, **options)
        if unknown:
            flags = [flag.strip("-") for action in self._actions for flag in action.option_strings]
            nearest = get_close_matches(unknown[0].partition("=")[0].strip("-"), flags, n=1, cutoff=0.5)
            hint = f"; did you mean --{nearest[0]}?" if nearest and unknown[0].startswith("--") else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)[:200]}{hint}")
        return namespace, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(None, str(unknown_name(action.dest, value, action.choices)))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="sase-attn", description="Squeeze-and-excitation style attention for PyTorch and timm.")
    parser.add_argument("--version", action="version", version=f"sase-attn {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser
