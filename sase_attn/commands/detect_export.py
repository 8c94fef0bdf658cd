"""`sase-attn detect export`: a trained detector as an ONNX file."""

import argparse
from pathlib import Path
from typing import Any

import torch

from sase_attn.commands.arguments import add_command
from sase_attn.commands.detect_source import WEIGHTS, load_source


def add_parser(parts: Any) -> None:
    """Add `export` to the parts of `sase-attn detect`."""
    sub = add_command(parts, "export", run, "Write a trained detector as ONNX, for images of any size.")
    sub.add_argument("source", metavar="SOURCE", help="a run's folder, or a file of a detector")
    sub.add_argument(
        "--weights", choices=WEIGHTS, default="best", help="which weights of a folder (default: best, by AP)"
    )
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .onnx file to write")
    sub.add_argument("--force", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> None:
    """Load the detector, write the file, and print its inputs and outputs."""
    from sase_attn.detection.export import export_onnx

    if args.output.exists() and not args.force:
        raise FileExistsError(f"{args.output} exists; --force replaces it")
    detector = load_source(args, torch.device("cpu"))
    names = export_onnx(detector, args.output)
    print(f"wrote {args.output}: image (3, height, width) from 0 to 1 -> {', '.join(names)}")
    print(f"classes by label - 1, in its metadata too: {', '.join(detector.classes)}")
