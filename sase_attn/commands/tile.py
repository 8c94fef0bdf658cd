"""`sase-attn tile`: a network with squeeze-and-excitation tiled, its buffering report, and a folder that timm loads."""

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from sase_attn import share
from sase_attn.commands.arguments import add_command, key_value
from sase_attn.errors import unknown_name
from sase_attn.files import write_atomically
from sase_attn.insert.attach import Attached
from sase_attn.tiling.block import TiledSE
from sase_attn.tiling.convert import tile
from sase_attn.tiling.measure import buffering
from sase_attn.tiling.report import PRECISIONS, BufferingReport
from sase_attn.training.loading import recipe_of
from sase_attn.weights import check_state_dict, read_checkpoint

_SCHEMES = ("local-dir:", "hf-hub:", "hf_hub:")
_WEIGHT_FILES = (".safetensors", ".pt", ".pth", ".bin")
_OPTIONS = ("rows", "columns", "count", "override")


def add_tile_parser(commands: Any) -> None:
    """Add `tile` to the subparsers of the command `sase-attn`."""
    text = "Tile squeeze-and-excitation without retraining, and count what a streaming chip then has to hold."
    sub = add_command(commands, "tile", _tile, text)
    sub.epilog = "Without -o the report alone is printed, for which no weights are read or fetched."
    sub.add_argument(
        "source", metavar="MODEL", help="timm's name, a run's or a saved model's folder, or a weights file with --model"
    )
    sub.add_argument("--model", metavar="NAME", help="the model that a weights file is for")
    sub.add_argument(
        "--model-kwargs", type=key_value, nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="arguments of the model, for names and weights files",
    )  # fmt: skip
    sub.add_argument("--rows", type=_side, metavar="N", help='height of the tiles, or "full" (default: 7)')
    sub.add_argument("--columns", type=_side, metavar="N", help='width of the tiles, or "full" (default: full)')
    sub.add_argument("--count", type=int, metavar="N", help="tile only the first N modules (default: all)")
    sub.add_argument(
        "--override", type=_override, nargs="+", action="extend", default=[], metavar="PATTERN=TILE",
        help='tile of the modules of these names: rows, rows×columns as "4x7", or "full"',
    )  # fmt: skip
    sub.add_argument("--size", type=_size, metavar="H[,W]", help="size of the images (default: the model's)")
    sub.add_argument("--precision", default="int8", choices=list(PRECISIONS), help="of an activation (default: int8)")
    sub.add_argument("--projections", action="store_true", help="count projected shortcuts too")
    sub.add_argument("--no-pretrained", action="store_true", help="write timm's name with random weights")
    sub.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="write the tiled model and its report there")
    sub.add_argument("--json", action="store_true", help="print JSON")


def _tile(args: argparse.Namespace) -> None:
    model = _open(args)
    chosen = {name: value for name in _OPTIONS if (value := getattr(args, name)) not in (None, [])}
    names = []
    if args.output is not None or chosen or not _tiled_names(model):  # else the report is of the tiles it has
        options = _tile_args(chosen)
        names = _announced(model, options, dry_run=args.output is not None)
        if args.output is not None:
            model = _converted(model, options, names)
    report = buffering(model, args.size, precision=args.precision, projections=args.projections)
    if args.output is not None:
        _write(model, report, args.output)
    if args.json:
        print(json.dumps(report.to_dict() | ({"folder": str(args.output)} if args.output else {}), indent=2))
        return
    print(report)
    if args.output is not None:
        print(f"tiled {len(names)} modules; saved to {args.output}; load it with")
        print(f'import sase_attn, timm; model = timm.create_model("local-dir:{args.output}", pretrained=True)')


def _open(args: argparse.Namespace) -> nn.Module:
    """The network; on the meta device where only its report is wanted."""
    path, needed = Path(args.source), args.output is not None
    if path.is_file():
        return _from_file(args, path)
    if args.model is not None:
        raise ValueError(f"--model says what a weights file is for, but {args.source} is no such file")
    place: dict[str, Any] = {} if needed else {"device": torch.device("meta")}
    folder = next((f for f in (path, path / "model") if (f / "config.json").is_file()), None)
    if path.is_dir() and folder is None:
        raise FileNotFoundError(f"{path} holds no model that timm can load: wanted config.json, or model/config.json")
    name = args.source if folder is None else f"local-dir:{folder}"
    if not name.startswith(_SCHEMES):
        if "/" in name or name.endswith(_WEIGHT_FILES):
            raise FileNotFoundError(f"no such file or folder: {name}")
        if not timm.is_model(name.partition(".")[0]):
            raise unknown_name("model", name, timm.list_models())
    pretrained = needed and not (args.no_pretrained and folder is None)
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)  # it reports each of its retries; the error below reports once
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained, **dict(args.model_kwargs), **place)
    except (TypeError, AssertionError, KeyError) as error:  # arguments that it does not take, or values that it refuses
        raise ValueError(f"cannot make {name} with these arguments: {error or 'not allowed'}") from None
    except Exception as error:  # of the Hub, of any HTTP library, of the files
        hint = "; --no-pretrained takes random weights" if pretrained and folder is None else ""
        raise share.HubError(share.pull_error(error, name) + hint) from error
    finally:
        log.setLevel(level)
    return model


def _from_file(args: argparse.Namespace, path: Path) -> nn.Module:
    """The network of a weights file; its classes and input channels are those of the weights."""
    recipe = recipe_of(str(path)) if args.model is None else None
    name, kwargs = (args.model, {}) if recipe is None else (recipe.model, recipe.model_kwargs)
    if name is None:
        raise ValueError(f"{path} does not say what model it is for: pass --model NAME")
    if not timm.is_model(name.partition(".")[0]):
        raise unknown_name("model", name, timm.list_models())
    weights = read_checkpoint(path)
    cfg = timm.models.get_pretrained_cfg(name)
    found = {
        argument: weights[key].shape[axis]
        for argument, layer, axis in (("num_classes", "classifier", 0), ("in_chans", "first_conv", 1))
        if (key := f"{getattr(cfg, layer, None)}.weight") in weights
    }
    try:
        model: nn.Module = timm.create_model(name, **found | kwargs | dict(args.model_kwargs))
    except (TypeError, AssertionError) as error:
        raise ValueError(f"cannot make {name} with these arguments: {error or 'not allowed'}") from None
    check_state_dict(weights, model, source=str(path))
    model.load_state_dict(weights)
    return model


def _tile_args(chosen: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `sase_attn.tile` and of the model `attached`, from the flags."""
    sides = {name: None if chosen[name] == "full" else chosen[name] for name in ("rows", "columns") if name in chosen}
    options: dict[str, Any] = {"rows": None if sides.get("columns") else 7} | sides
    if "count" in chosen:
        options["count"] = chosen["count"]
    if "override" in chosen:
        options["overrides"] = dict(chosen["override"])
    return options


def _announced(model: nn.Module, options: dict[str, Any], dry_run: bool) -> list[str]:
    """Names of what `tile` converts; its warnings as notes on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        names = [tiling.name for tiling in tile(model, **options, dry_run=dry_run)]
    for note in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"sase-attn: note: {note}", file=sys.stderr)
    return names


def _converted(model: Any, options: dict[str, Any], names: list[str]) -> Any:
    """The same network as the model `attached`, which timm can rebuild from its arguments, with the same weights."""
    cfg, recorded = dict(model.pretrained_cfg), dict(model._model_args)
    name = cfg["architecture"]
    if name != "attached":
        recorded["base"] = name
    elif "tile" in recorded:
        raise ValueError(
            f"this network is tiled already, by {json.dumps(recorded['tile'])}; start from the untiled one"
        )
    if behind := [n for n in names if isinstance(model.get_submodule(n.rpartition(".")[0]), Attached)]:
        raise ValueError(
            f"cannot save {behind[0]} tiled: `attached` tiles a network before it attaches attention; attach 'tiled_se'"
        )
    with warnings.catch_warnings():  # announced before
        warnings.simplefilter("ignore", UserWarning)
        twin: Any = timm.create_model("attached", **recorded | {"tile": options})
    twin.load_state_dict(model.state_dict())
    source = ("architecture", "tag", "url", "file", "hf_hub_id", "source", "custom_load")
    own = {key: value for key, value in cfg.items() if key not in source}
    twin.pretrained_cfg = {**twin.pretrained_cfg, **own, "architecture": "attached"}
    return twin


def _write(model: Any, report: BufferingReport, folder: Path) -> None:
    base = model._model_args["base"]
    summary = (
        f"{report.se / 1e6:.3f}M → {report.tiled / 1e6:.3f}M activations held at {report.size[0]}×{report.size[1]}"
    )
    share.save(
        model,
        folder,
        license=model.pretrained_cfg.get("license") or "apache-2.0",
        description=f"`{base}` with tiled squeeze-and-excite (https://arxiv.org/abs/2107.02145): {summary}.",
    )
    write_atomically(folder / "buffering.json", report.to_json() + "\n")
    write_atomically(folder / "buffering.txt", f"{report}\n")


def _tiled_names(model: nn.Module) -> list[str]:
    return sorted(name for name, module in model.named_modules() if isinstance(module, TiledSE))


def _side(text: str) -> int | str:
    """A number of at least 1, or "full"."""
    if text == "full":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a number of at least 1, or "full", got {text!r}')
    return int(text)


def _override(text: str) -> tuple[str, int | str | list[int | None]]:
    """`pattern=rows`, `pattern=rows×columns` with an x between, or `pattern=full`."""
    pattern, separator, value = text.rpartition("=")
    sides = [_side(side) for side in value.split("x")] if separator and pattern else []
    if not 1 <= len(sides) <= 2:
        raise argparse.ArgumentTypeError(f"expected pattern=rows, pattern=4x7 or pattern=full, got {text!r}")
    if len(sides) == 1:
        return pattern, sides[0]
    return pattern, [None if side == "full" else int(side) for side in sides]


def _size(text: str) -> tuple[int, int]:
    """`224`, or height and width as `320,480`."""
    sides = text.split(",")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise argparse.ArgumentTypeError(f"expected a size as 224 or 320,480, got {text!r}")
    return int(sides[0]), int(sides[-1])
