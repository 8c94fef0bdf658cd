"""`sase-attn detect import`: convert a detector of the authors, or of mmdetection, for this package."""

import argparse
from pathlib import Path
from typing import Any

from sase_attn.commands.arguments import add_command, read_genotype
from sase_attn.quoting import command


def add_parser(parts: Any) -> None:
    """Add `import` to the parts of `sase-attn detect`."""
    sub = add_command(parts, "import", run, "Convert a detector of the authors, or of mmdetection 2 or 3.")
    sub.add_argument("file", type=Path, metavar="FILE", help="the checkpoint, such as pnorm_det_r50.pth")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .safetensors file to write")
    sub.add_argument(
        "--backbone", metavar="NAME", help="the model it is on (default: the ResNet that the weights are of)"
    )
    sub.add_argument(
        "--genotype",
        metavar="GENOTYPE",
        help="genotype of its attention (default: sase); the notation [('GAP+GMP', 0), …] is read too",
    )
    sub.add_argument("--classes", nargs="+", metavar="NAME", help="names of its classes (default: those in the file)")
    sub.add_argument("--force", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> None:
    """Convert the file, and print what was assumed and how to use it."""
    from sase_attn.detection.authors import import_detector

    genotype = None if args.genotype is None else read_genotype(args.genotype)
    try:
        done = import_detector(
            args.file,
            args.output,
            backbone=args.backbone,
            genotype=genotype,
            classes=args.classes,
            overwrite=args.force,
        )
    except FileExistsError as error:
        raise FileExistsError(f"{error}; --force replaces it") from None
    kind = "Mask R-CNN" if done.config.has_masks else "Faster R-CNN"
    print(
        f"wrote {done.tensors} tensors to {args.output}: {kind} on {done.config.backbone}, {len(done.classes)} classes"
    )
    for line in done.assumed:
        print(f"assumed, since the file does not say it: {line}")
    print(f"detect with it: {command('detect', 'predict', args.output, 'IMAGES')}")
