"""`sase-attn synthesize`: train a generator on the images of a folder, sample images, and evaluate them."""

import argparse
import json
import re
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sase_attn.commands import synthesize_one_shot
from sase_attn.commands.arguments import add_command, whole
from sase_attn.commands.flags import add_flags, given_flags, summary
from sase_attn.commands.progress import progress
from sase_attn.settings import LARGEST_SEED, MANY
from sase_attn.spatially_adaptive.synthesis.checkpoint import load_synthesis
from sase_attn.spatially_adaptive.synthesis.config import SynthesisConfig
from sase_attn.spatially_adaptive.synthesis.evaluate import evaluate_generator
from sase_attn.spatially_adaptive.synthesis.run import train_synthesis
from sase_attn.spatially_adaptive.synthesis.saved_generator import load_generator
from sase_attn.spatially_adaptive.synthesis.sheets import grid, interpolation, save_png
from sase_attn.training.distributed import ranks

_DEVICE = "cpu, cuda or cuda:N (default: CUDA where there is a device)"
_WEIGHTS = ("best", "last")
_SHEET = 64  # largest number of images on a sheet
_EXTRACTOR = ("extractor", "extractor_weights")


def add_parser(commands: Any) -> None:
    """Add `synthesize` with its parts to the subparsers of `sase-attn`."""
    text = "Learn to make images like those of a folder, make some, and measure them."
    parts = commands.add_parser("synthesize", help=text, description=text, allow_abbrev=False).add_subparsers(
        dest="part", metavar="PART", required=True
    )
    learn = add_command(parts, "train", train, "Learn from a folder of images; stop it and resume it at any time.")
    learn.add_argument("--output", type=Path, metavar="FOLDER", help="default: runs/synthesize-<images>-seed<seed>")
    learn.add_argument("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    learn.add_argument("--device", help=_DEVICE)
    learn.add_argument("--show", action="store_true", help="print the configuration as JSON and train nothing")
    add_flags(learn.add_argument_group("fields of the configuration"), SynthesisConfig)

    make = add_command(parts, "sample", sample, "Images of a trained generator, as PNG files and as one sheet.")
    _add_source(make)
    make.add_argument("--count", type=whole(1, 100_000), default=16, metavar="N", help="images (default: %(default)s)")
    make.add_argument(
        "--interpolate", type=whole(2, 1000), metavar="N", help="also a sheet of rows of N from one image to another"
    )
    make.add_argument("--output", type=Path, metavar="FOLDER", help="default: <run>/made-<weights>-seed<seed>")

    measure = add_command(parts, "evaluate", evaluate, "Scores of a trained generator, and its nearest neighbours.")
    _add_source(measure)
    measure.add_argument("--images", type=Path, metavar="FOLDER", help="default: those that the run learned from")
    measure.add_argument(
        "--count", type=whole(10, 50_000), default=100, metavar="N", help="images to make (default: %(default)s)"
    )
    add_flags(measure, SynthesisConfig, _EXTRACTOR)
    measure.add_argument(
        "--output", type=Path, metavar="FILE", help="the sheet of neighbours (default: <run>/neighbours.png)"
    )
    measure.add_argument("--json", action="store_true", help="print JSON")

    synthesize_one_shot.add_parser(parts)


def _add_source(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("source", type=Path, metavar="RUN", help="the folder of a run, or one of its .safetensors files")
    sub.add_argument(
        "--weights", choices=_WEIGHTS, default="best", help="which weights of a folder (default: best, by KID)"
    )
    sub.add_argument("--seed", type=whole(0, LARGEST_SEED), default=0, metavar="N", help="default: %(default)s")
    sub.add_argument("--batch-size", type=whole(1, MANY), default=16, metavar="N", help="default: %(default)s")
    sub.add_argument("--device", help=_DEVICE)


def train(args: argparse.Namespace) -> None:
    """Train, and print the scores and the code that loads the generator."""
    flags = given_flags(args, SynthesisConfig)
    if args.resume and args.output is None:
        args.error("--resume goes on with what a folder holds: name it by --output")
    start = load_synthesis(args.output).settings if args.resume else SynthesisConfig()
    config = start.override(**flags)
    if args.show:
        print(config.to_json())
        return
    name = re.sub(r"[^\w.-]+", "-", Path(config.images).resolve().name)
    output = args.output or Path("runs") / f"synthesize-{name}-seed{config.seed}"
    echo = partial(print, flush=True)
    echo(summary(config, f"synthesis in {output}"))
    result = train_synthesis(config, output, resume=args.resume, device=args.device, echo=echo)
    if result.scores is not None:
        for line in result.scores.sentences():
            echo(line)
        echo(f"best KID {result.best_kid:.4f} at step {result.best_step:,}")
    echo(f"after {result.seconds:.0f} s; files: {output} (samples/, snapshots/, best.safetensors, "
         "generator.safetensors, checkpoint.pt, log.jsonl, config.json, result.json)")  # fmt: skip
    echo("make images with")
    echo(result.load_lines)


def sample(args: argparse.Namespace) -> None:
    """Write sampled images one by one, and as a sheet."""
    with ranks(args.device) as group:
        generator = load_generator(args.source, args.weights).to(group.device)
        folder = args.output or _beside(args.source) / f"made-{args.weights}-seed{args.seed}"
        shown: list[Tensor] = []
        images = chain.from_iterable(generator.batches(args.count, args.seed, args.batch_size))
        for place, image in enumerate(progress(images, args.count, "images")):
            save_png(image, folder / f"{place:05d}.png")
            if place < _SHEET:
                shown.append(image)
        save_png(grid(torch.stack(shown)), folder / "sheet.png")
        if args.interpolate is not None:
            rows = min(args.count, 8)
            save_png(interpolation(generator, rows, args.interpolate, args.seed), folder / "interpolation.png")
    print(f"{args.count} images, and sheet.png of the first {len(shown)}, in {folder}")


def evaluate(args: argparse.Namespace) -> None:
    """Print the scores, and write a sheet of samples above their nearest training images."""
    found = evaluate_generator(
        args.source,
        weights=args.weights,
        images=args.images,
        count=args.count,
        seed=args.seed,
        batch_size=args.batch_size,
        device=args.device,
        **{name: getattr(args, name) for name in _EXTRACTOR if hasattr(args, name)},
    )
    output = args.output or _beside(args.source) / "neighbours.png"
    save_png(found.sheet, output)
    if args.json:
        print(json.dumps({"source": str(args.source), "step": found.step, **asdict(found.scores)}, indent=2))
        return
    print(f"{found.file}, step {found.step:,}")
    for line in found.scores.sentences():
        print(line)
    print(f"made images above the training images nearest to them: {output}")


def _beside(source: Path) -> Path:
    return source if source.is_dir() else source.parent
