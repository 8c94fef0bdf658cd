"""`sase-attn show`: the operations of a genotype, the cost of each, and a drawing of the block."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sase_attn.commands.arguments import add_command, read_genotype, whole
from sase_attn.describe import describe
from sase_attn.plot import draw_genotype
from sase_attn.settings import LARGEST_SIZE


def add_parser(commands: Any) -> None:
    """Add `show` to the subparsers of `sase-attn`."""
    sub = add_command(
        commands, "show", run, "Show a genotype: its operations, their parameters and multiply-accumulates."
    )
    sub.add_argument(
        "genotype", metavar="GENOTYPE", help='a published name, an inline string "edge:op,…", or a .json file'
    )
    sub.add_argument(
        "--channels",
        type=whole(None, LARGEST_SIZE),
        default=256,
        metavar="C",
        help="channels of the map (default: %(default)s)",
    )
    sub.add_argument(
        "--size",
        type=whole(None, LARGEST_SIZE),
        default=56,
        metavar="H",
        help="height and width of the map (default: %(default)s)",
    )
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="also draw the block: .png, .svg or .pdf")


def run(args: argparse.Namespace) -> None:
    """Print the description, and draw the block if a file is named."""
    genotype = read_genotype(args.genotype)
    description = describe(genotype, args.channels, args.size)
    if args.output is not None:
        draw_genotype(genotype, args.output)
    print(json.dumps(asdict(description), indent=2) if args.json else description)
