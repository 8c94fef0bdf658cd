"""`sase-attn push`: publish a trained model on the Hugging Face Hub, or write the same files to a folder."""

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import timm

from sase_attn import share
from sase_attn.commands.arguments import add_command, key_value
from sase_attn.commands.networks import arguments_of, load_line
from sase_attn.models.names import check_name
from sase_attn.models.registered import registered_models
from sase_attn.training.data_config import take_data_config
from sase_attn.weights import read_checkpoint
from sase_attn.weights.fitting import fitted
from sase_attn.weights.gains import take_unasked_gains
from sase_attn.weights.genotypes import read_record
from sase_attn.weights.state_dicts import check_state_dict


def add_parser(commands: Any) -> None:
    """Add `push` to the subparsers of `sase-attn`."""
    sub = add_command(
        commands, "push", run, "Publish a trained model on the Hugging Face Hub, or save what would be published."
    )
    sub.usage = "sase-attn push FILE --model NAME (--repo ORG/NAME | --save-to FOLDER) [options]"
    sub.add_argument("file", type=Path, metavar="FILE", help="weights: .safetensors or a torch checkpoint")
    sub.add_argument("--model", required=True, metavar="NAME", help="name of the model in timm's registry")
    repeated: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    sub.add_argument("--model-kwargs", type=key_value, metavar="KEY=VALUE", help="arguments of the model", **repeated)
    sub.add_argument("--repo", metavar="ORG/NAME", help="repository on the Hub; it is made if it does not exist")
    sub.add_argument("--save-to", type=Path, metavar="FOLDER", help="write a folder and push nothing")
    sub.add_argument("--private", action="store_true", help="make a new repository private")
    sub.add_argument("--revision", help="existing branch to push to")
    sub.add_argument("--message", default="Add model", help="title of the commit (default: %(default)s)")
    sub.add_argument("--license", default="apache-2.0", help="licence of the weights (default: %(default)s)")
    sub.add_argument("--description", help="first paragraph of the model card")
    sub.add_argument("--metric", type=_metric, metavar="NAME=VALUE", help="results for the model card", **repeated)


def run(args: argparse.Namespace) -> None:
    """Make the model, load the weights, and publish or save it."""
    if args.repo is None and args.save_to is None:
        args.error("the following arguments are required: --repo, or --save-to")
    with nullcontext() if args.save_to is None else share.new_folder(args.save_to):
        _run(args)


def _run(args: argparse.Namespace) -> None:
    check_name(args.model, registered_models())
    if args.file.is_dir():
        raise IsADirectoryError(f"{args.file} is a folder: wanted a weights file, such as best.safetensors of a run")
    tensors = read_checkpoint(args.file)
    with arguments_of(args.model):
        model = timm.create_model(args.model, **dict(args.model_kwargs))
    state_dict = fitted(tensors, model, source=str(args.file))
    genotype = read_record(args.file)
    take_unasked_gains(genotype, model, source=str(args.file))
    check_state_dict(state_dict, model, source=str(args.file), genotype=genotype)
    model.load_state_dict(state_dict)
    take_data_config(model, args.file)
    card = {"license": args.license, "description": args.description, "metrics": dict(args.metric) or None}
    if args.save_to is not None:
        folder = share.save(model, args.save_to, repo_id=args.repo, **card)
        print(f"saved to {folder}; load it with")
        print(load_line(f"local-dir:{folder}", pretrained=True))
    else:
        how = {"private": args.private, "revision": args.revision, "commit_message": args.message}
        print(f"pushed to {share.push(model, args.repo, **how, **card)}; load it with")
        print(load_line(f"hf-hub:{args.repo}" + (f"@{args.revision}" if args.revision else ""), pretrained=True))


def _metric(text: str) -> tuple[str, float]:
    """Parse `name=value`, split at the last `=`."""
    name, _, value = text.rpartition("=")
    try:
        if not name:
            raise ValueError
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected name=number, got {text!r}") from None
