"""`sase-attn import`: convert a checkpoint of the authors to safetensors that timm loads."""

import argparse
from pathlib import Path
from typing import Any

from sase_attn import weights
from sase_attn.commands.arguments import add_command, read_genotype
from sase_attn.commands.networks import arguments_of, load_line
from sase_attn.models.names import check_name
from sase_attn.models.registered import registered_models


def add_parser(commands: Any) -> None:
    """Add `import` to the subparsers of `sase-attn`."""
    sub = add_command(commands, "import", run, "Convert a checkpoint of the authors to safetensors for timm.")
    sub.add_argument("file", type=Path, metavar="FILE", help="the authors' checkpoint, such as pnorm_imgnet_r50.pth")
    sub.add_argument("--model", required=True, metavar="NAME", help="the model it is for, such as sase_resnet50")
    sub.add_argument(
        "--genotype",
        metavar="GENOTYPE",
        help="genotype that it was trained with (default: sase); the notation [('GAP+GMP', 0), …] is read too",
    )
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .safetensors file to write")
    sub.add_argument("--force", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> None:
    """Convert the file, and print how to load it."""
    check_name(args.model, registered_models())
    genotype = None if args.genotype is None else read_genotype(args.genotype)
    try:
        with arguments_of(args.model):
            done = weights.import_checkpoint(
                args.file, args.model, args.output, genotype=genotype, overwrite=args.force
            )
    except FileExistsError as error:
        raise FileExistsError(f"{error}; --force replaces it") from None
    print(f"wrote {done.tensors} tensors to {args.output}; load them with")
    print(load_line(args.model, **done.arguments, checkpoint_path=str(args.output)))
