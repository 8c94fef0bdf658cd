"""The command `sase-attn`: list, show, import, push, train, evaluate, search, sweep. It parses, calls and prints.

An expected error is one line on stderr. Exit codes: 0; 1 for errors; 2 for usage and unknown names; 130 for Ctrl-C.
"""

import argparse
import io
import json
import os
import pkgutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import timm
import torch

from sase_attn import __version__, describe, models, share, weights
from sase_attn.commands.arguments import add_command, key_value
from sase_attn.commands.search import add_search_parsers
from sase_attn.commands.tile import add_tile_parser
from sase_attn.commands.train import add_parsers
from sase_attn.errors import UnknownNameError, unknown_name
from sase_attn.genotype import Genotype, genotypes
from sase_attn.models import paper_table
from sase_attn.modules import count_parameters
from sase_attn.plot import draw_genotype


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the given arguments, by default those of the process, and return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # definitions hold symbols that some terminals' encodings lack
    try:
        args = _parser().parse_args(argv)
        args.run(args)
        sys.stdout.flush()
    except SystemExit as exit:  # argparse's own, after --help, --version and usage errors
        return int(exit.code or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader is gone; the interpreter must not flush into the pipe once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, ImportError, FloatingPointError, share.HubError) as error:
        print(f"sase-attn: error: {_one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, UnknownNameError) else 1
    return 0


def _list(args: argparse.Namespace) -> None:
    if args.compare:
        if args.kind is not None or args.markdown:
            args.error("--compare prints the table of the paper's comparison; it goes with --json only")
        if args.json:
            compared = [asdict(row) for row in paper_table.comparison()]
            boxes = [asdict(box) for box in paper_table.detectors()]
            print(json.dumps({"networks": compared, "detectors": boxes}, indent=2))
        else:
            print(paper_table.comparison_text())
        return
    if args.markdown:
        tables = {None: describe.operations_table, "ops": describe.operations_table}
        tables["attentions"] = describe.attentions_table
        if args.kind not in tables:
            args.error(f"--markdown prints the table of operations or of attentions, not of {args.kind}")
        print(tables[args.kind]())
        return
    listings: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "ops": lambda: [asdict(op) for op in describe.describe_ops()],
        "attentions": lambda: [asdict(attention) for attention in describe.describe_attentions()],
        "genotypes": lambda: [{"name": name, "genotype": str(genotype)} for name, genotype in genotypes.items()],
        "models": lambda: [_describe_model(name) for name in _our_models()],
    }
    listed = {kind: rows() for kind, rows in listings.items() if args.kind in (None, kind)}
    if args.json:
        print(json.dumps(listed, indent=2))
        return
    notes = dict.fromkeys(("ops", "attentions"), " (parameters at C = 256)") | {"models": " (timm.create_model)"}
    for i, (kind, rows) in enumerate(listed.items()):
        keys = list(rows[0])
        table = [
            keys,
            *([f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()] for row in rows),
        ]
        print("\n" * (i > 0) + kind + notes.get(kind, ""))
        print(describe.text_table(table, right=[i for i, key in enumerate(keys) if key == "parameters"]))


def _show(args: argparse.Namespace) -> None:
    genotype = (Genotype.load if args.genotype.endswith(".json") else Genotype.parse)(args.genotype)
    description = describe.describe(genotype, args.channels, args.size)
    if args.output is not None:
        draw_genotype(genotype, args.output)
    print(json.dumps(asdict(description), indent=2) if args.json else description)


def _import(args: argparse.Namespace) -> None:
    _check_model(args.model)
    try:
        count = weights.import_checkpoint(args.file, args.model, args.output, overwrite=args.force)
    except FileExistsError as error:
        raise FileExistsError(f"{error}; --force replaces it") from None
    print(f"wrote {count} tensors to {args.output}; load them with")
    print(_loading(args.model, checkpoint_path=str(args.output)))


def _push(args: argparse.Namespace) -> None:
    if args.repo is None and args.save_to is None:
        args.error("the following arguments are required: --repo, or --save-to")
    _check_model(args.model)
    state_dict = weights.read_checkpoint(args.file)
    try:
        model = timm.create_model(args.model, **dict(args.model_kwargs))
    except (TypeError, AssertionError) as error:  # arguments that it does not take, or values that it refuses
        raise ValueError(f"cannot make {args.model} with these arguments: {error or 'not allowed'}") from None
    weights.check_state_dict(state_dict, model, source=str(args.file))
    model.load_state_dict(state_dict)
    card = {"license": args.license, "description": args.description, "metrics": dict(args.metric) or None}
    if args.save_to is not None:
        folder = share.save(model, args.save_to, repo_id=args.repo, **card)
        print(f"saved to {folder}; load it with")
        print(_loading(f"local-dir:{folder}", pretrained=True))
    else:
        how = {"private": args.private, "revision": args.revision, "commit_message": args.message}
        print(f"pushed to {share.push(model, args.repo, **how, **card)}; load it with")
        print(_loading(f"hf-hub:{args.repo}" + (f"@{args.revision}" if args.revision else ""), pretrained=True))


def _loading(name: str, **arguments: str | bool) -> str:
    """Python that loads a model."""
    shown = [json.dumps(name)]
    shown += [f"{key}={json.dumps(value) if isinstance(value, str) else value}" for key, value in arguments.items()]
    return f"import sase_attn, timm; model = timm.create_model({', '.join(shown)})"


def _our_models() -> list[str]:
    """What this package has registered with timm, module by module."""
    modules = [module.name for module in pkgutil.iter_modules(models.__path__)]
    return [name for module in modules for name in timm.list_models(module=module)]


def _check_model(name: str) -> None:
    if not timm.is_model(name):
        raise unknown_name("model", name, _our_models())


@cache
def _describe_model(name: str) -> dict[str, Any]:
    model = timm.create_model(name, device=torch.device("meta"))
    definition = describe.definition(timm.model_entrypoint(name))
    return {"name": name, "parameters": count_parameters(model), "definition": definition}


def _one_line(error: BaseException) -> str:
    """The message without line breaks; of an OSError the file and the reason."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


class _Parser(argparse.ArgumentParser):
    """Errors in one line, and the nearest names for unknown commands and choices."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"sase-attn: error: {message} (see {self.prog} --help)\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(None, str(unknown_name(action.dest, value, action.choices)))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="sase-attn", description="Squeeze-and-excitation style attention for PyTorch and timm.")
    parser.add_argument("--version", action="version", version=f"sase-attn {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    sub = add_command(commands, "list", _list, "List operations, attentions, genotypes and models, or one of these.")
    sub.add_argument("kind", nargs="?", choices=("ops", "attentions", "genotypes", "models"), help="default: all four")
    sub.add_argument(
        "--compare", action="store_true", help="parameters and MACs of all networks beside the paper's table"
    )
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print operations, or attentions, as a Markdown table")

    sub = add_command(
        commands, "show", _show, "Show a genotype: its operations, their parameters and multiply-accumulates."
    )
    sub.add_argument(
        "genotype", metavar="GENOTYPE", help='a published name, an inline string "edge:op,…", or a .json file'
    )
    sub.add_argument(
        "--channels", type=int, default=256, metavar="C", help="channels of the map (default: %(default)s)"
    )
    sub.add_argument(
        "--size", type=int, default=56, metavar="H", help="height and width of the map (default: %(default)s)"
    )
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="also draw the block: .png, .svg or .pdf")

    sub = add_command(commands, "import", _import, "Convert a checkpoint of the authors to safetensors for timm.")
    sub.add_argument("file", type=Path, metavar="FILE", help="the authors' checkpoint, such as pnorm_imgnet_r50.pth")
    sub.add_argument("--model", required=True, metavar="NAME", help="the model it is for, such as sase_resnet50")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .safetensors file to write")
    sub.add_argument("--force", action="store_true", help="replace an existing file")

    sub = add_command(
        commands, "push", _push, "Publish a trained model on the Hugging Face Hub, or save what would be published."
    )
    sub.usage = "sase-attn push FILE --model NAME (--repo ORG/NAME | --save-to FOLDER) [options]"
    sub.add_argument("file", type=Path, metavar="FILE", help="weights: .safetensors or a torch checkpoint")
    sub.add_argument("--model", required=True, metavar="NAME", help="name of the model in timm's registry")
    several: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    sub.add_argument("--model-kwargs", type=key_value, metavar="KEY=VALUE", help="arguments of the model", **several)
    sub.add_argument("--repo", metavar="ORG/NAME", help="repository on the Hub; it is made if it does not exist")
    sub.add_argument("--save-to", type=Path, metavar="FOLDER", help="write a folder and push nothing")
    sub.add_argument("--private", action="store_true", help="make a new repository private")
    sub.add_argument("--revision", help="existing branch to push to")
    sub.add_argument("--message", default="Add model", help="title of the commit (default: %(default)s)")
    sub.add_argument("--license", default="apache-2.0", help="licence of the weights (default: %(default)s)")
    sub.add_argument("--description", help="first paragraph of the model card")
    sub.add_argument("--metric", type=_metric, metavar="NAME=VALUE", help="results for the model card", **several)
    add_parsers(commands)
    add_search_parsers(commands)
    add_tile_parser(commands)
    return parser


def _metric(text: str) -> tuple[str, float]:
    """`name=value`, split at the last `=`."""
    name, _, value = text.rpartition("=")
    try:
        if not name:
            raise ValueError
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected name=number, got {text!r}") from None
