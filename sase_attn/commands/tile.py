"""`sase-attn tile`: tile the squeeze-and-excitation of a network, report what it buffers, and save it for timm."""

import argparse
import json
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from sase_attn import share
from sase_attn.commands.arguments import add_command, key_value, whole
from sase_attn.commands.networks import load_line
from sase_attn.commands.tile_arguments import image_size, tile_arguments, tile_override, tile_side
from sase_attn.commands.tile_output import as_attached, write_tiled
from sase_attn.commands.tile_source import open_network
from sase_attn.settings import MANY
from sase_attn.tiling.block import TiledSE
from sase_attn.tiling.convert import tile
from sase_attn.tiling.measure import buffering
from sase_attn.tiling.report import PRECISIONS

_OPTIONS = ("rows", "columns", "count", "override")


def add_parser(commands: Any) -> None:
    """Add `tile` to the subparsers of `sase-attn`."""
    text = "Tile squeeze-and-excitation without retraining, and count what a streaming chip then has to hold."
    sub = add_command(commands, "tile", run, text)
    sub.epilog = "Without -o the report alone is printed, for which no weights are read or fetched."
    sub.add_argument(
        "source", metavar="MODEL", help="timm's name, a run's or a saved model's folder, or a weights file with --model"
    )
    sub.add_argument("--model", metavar="NAME", help="the model that a weights file is for")
    sub.add_argument(
        "--model-kwargs", type=key_value, nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="arguments of the model, for names and weights files",
    )  # fmt: skip
    sub.add_argument("--rows", type=tile_side, metavar="N", help='height of the tiles, or "full" (default: 7)')
    sub.add_argument("--columns", type=tile_side, metavar="N", help='width of the tiles, or "full" (default: full)')
    sub.add_argument(
        "--count", type=whole(None, MANY), metavar="N", help="tile only the first N modules (default: all)"
    )
    sub.add_argument(
        "--override", type=tile_override, nargs="+", action="extend", default=[], metavar="PATTERN=TILE",
        help='tile of the modules of these names: rows, rows×columns as "4x7", or "full"',
    )  # fmt: skip
    sub.add_argument("--size", type=image_size, metavar="H[,W]", help="size of the images (default: the model's)")
    sub.add_argument(
        "--precision", default="int8", choices=list(PRECISIONS), help="type of an activation (default: int8)"
    )
    sub.add_argument("--projections", action="store_true", help="count projected shortcuts too")
    sub.add_argument("--no-pretrained", action="store_true", help="write timm's name with random weights")
    sub.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="write the tiled model and its report there")
    sub.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> None:
    """Tile the network if that is asked for, and print what must be buffered before and after."""
    with nullcontext() if args.output is None else share.new_folder(args.output):
        _run(args)


def _run(args: argparse.Namespace) -> None:
    model = open_network(args)
    chosen = {name: value for name in _OPTIONS if (value := getattr(args, name)) not in (None, [])}
    names = []
    if args.output is not None or chosen or not _tiled_names(model):  # otherwise report on the tiles that it has
        options = tile_arguments(chosen)
        names = _announced(model, options, dry_run=args.output is not None)
        if args.output is not None:
            model = as_attached(model, options, names)
    report = buffering(model, args.size, precision=args.precision, projections=args.projections)
    if args.output is not None:
        write_tiled(model, report, args.output)
    if args.json:
        print(json.dumps(report.to_dict() | ({"folder": str(args.output)} if args.output else {}), indent=2))
        return
    print(report)
    if args.output is not None:
        print(f"tiled {len(names)} modules; saved to {args.output}; load it with")
        print(load_line(f"local-dir:{args.output}", pretrained=True))


def _announced(model: nn.Module, options: dict[str, Any], dry_run: bool) -> list[str]:
    """The names of the modules that `tile` converts; its warnings are printed as notes on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        names = [tiling.name for tiling in tile(model, **options, dry_run=dry_run)]
    for note in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"sase-attn: note: {note}", file=sys.stderr)
    return names


def _tiled_names(model: nn.Module) -> list[str]:
    return sorted(name for name, module in model.named_modules() if isinstance(module, TiledSE))
