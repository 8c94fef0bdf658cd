"""`sase-attn synthesize one-shot`: train a generator on one image, sample from it, and edit or harmonise pictures."""

import argparse
import json
import re
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from sase_attn.commands.arguments import add_command, whole
from sase_attn.commands.flags import add_flags, given_flags, summary
from sase_attn.settings import LARGEST_SEED
from sase_attn.spatially_adaptive.synthesis.one_shot.checkpoint import load_progress
from sase_attn.spatially_adaptive.synthesis.one_shot.config import MOST_SCALES, OneShotConfig
from sase_attn.spatially_adaptive.synthesis.one_shot.features import EXTRACTORS, load_features
from sase_attn.spatially_adaptive.synthesis.one_shot.measures import measure
from sase_attn.spatially_adaptive.synthesis.one_shot.model import LARGEST_SAMPLE, OneShotModel
from sase_attn.spatially_adaptive.synthesis.one_shot.run import train_one_shot
from sase_attn.spatially_adaptive.synthesis.one_shot.saved_model import load_one_shot
from sase_attn.spatially_adaptive.synthesis.one_shot.sifid import sifid
from sase_attn.spatially_adaptive.synthesis.sheets import save_png
from sase_attn.training.distributed import ranks

_DEVICE = "cpu, cuda or cuda:N (default: CUDA where there is a device)"


def add_parser(parts: Any) -> None:
    """Add `one-shot` with its actions to the parts of `synthesize`."""
    text = "Learn one image, make others like it, and change pictures in its manner."
    actions = parts.add_parser("one-shot", help=text, description=text, allow_abbrev=False).add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    learn = add_command(actions, "train", train, "Learn one image; stop it and resume it at any time.")
    learn.add_argument("--image", type=Path, metavar="FILE", help="image to learn from; a resumed run has its own")
    learn.add_argument("--output", type=Path, metavar="FOLDER", help="default: runs/one-shot-<image>-seed<seed>")
    learn.add_argument("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    learn.add_argument("--device", help=_DEVICE)
    learn.add_argument("--show", action="store_true", help="print the configuration as JSON and train nothing")
    add_flags(learn.add_argument_group("fields of the configuration"), OneShotConfig)

    make = add_command(actions, "sample", sample, "Images like the one that was learned, of any size, as PNG files.")
    _add_source(make)
    make.add_argument("--height", type=whole(1, LARGEST_SAMPLE), metavar="N", help="default: the learned image's")
    make.add_argument("--width", type=whole(1, LARGEST_SAMPLE), metavar="N", help="default: the learned image's")
    make.add_argument("--count", type=whole(1, 1000), default=8, metavar="N", help="images (default: %(default)s)")
    make.add_argument(
        "--start-scale",
        type=whole(0, MOST_SCALES),
        default=0,
        metavar="N",
        help="start this scale from the learned image, so that its layout stays (default: 0, from noise alone)",
    )
    make.add_argument("--output", type=Path, metavar="FOLDER", help="default: <run>/samples-seed<seed>")

    for name, function, text, masked in (
        ("edit", edit, "A picture with what was painted or moved in it, as the learned image would show it.", False),
        ("harmonise", harmonise, "A picture into which something was pasted, in the learned image's manner.", True),
    ):
        change = add_command(actions, name, function, text)
        _add_source(change)
        change.add_argument("--image", type=Path, required=True, metavar="FILE", help="the changed picture")
        change.add_argument("--mask", type=Path, required=masked, metavar="FILE", help="white where it was changed")
        change.add_argument(
            "--scale", type=whole(1, MOST_SCALES), metavar="N", help="made anew from here; less keeps less"
        )
        change.add_argument("--output", type=Path, metavar="FILE", help=f"default: <run>/{name}-<image>.png")

    judge = add_command(actions, "evaluate", evaluate, "How well the image is rebuilt, how samples vary, and SIFID.")
    _add_source(judge)
    judge.add_argument("--count", type=whole(2, 10_000), default=16, metavar="N", help="samples (default: %(default)s)")
    judge.add_argument(
        "--extractor",
        choices=tuple(EXTRACTORS),
        default="efficientnet_lite0",
        help="features that SIFID is measured by (default: %(default)s)",
    )
    judge.add_argument(
        "--extractor-weights",
        type=Path,
        metavar="FILE",
        help="weights of FID's Inception, for inception_64 and inception_192",
    )
    judge.add_argument("--json", action="store_true", help="print JSON")


def _add_source(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("source", type=Path, metavar="RUN", help="the folder of a run, or its one_shot.safetensors")
    sub.add_argument("--seed", type=whole(0, LARGEST_SEED), default=0, metavar="N", help="default: %(default)s")
    sub.add_argument("--device", help=_DEVICE)


def train(args: argparse.Namespace) -> None:
    """Train, and print the measurements and the code that loads the model."""
    if args.resume and args.output is None:
        args.error("--resume goes on with what a folder holds: name it by --output")
    start = load_progress(args.output).settings if args.resume else OneShotConfig()
    config = start.override(**given_flags(args, OneShotConfig))
    if args.show:
        print(config.to_json())
        return
    if args.image is None and not args.resume:
        args.error("wanted an image to learn from: --image FILE")
    stem = re.sub(r"[^\w.-]+", "-", args.image.stem) if args.image is not None else ""
    output = args.output or Path("runs") / f"one-shot-{stem}-seed{config.seed}"
    echo = partial(print, flush=True)
    echo(summary(config, f"one-shot training in {output}"))
    result = train_one_shot(args.image, output, config, resume=args.resume, device=args.device, echo=echo)
    echo(str(result.measures))
    echo(f"after {result.seconds:.0f} s; files: {output} (sheet.png, one_shot.safetensors, result.json, log.jsonl, "
         "checkpoint.pt, one_shot.json)")  # fmt: skip
    echo("make images with")
    echo(result.load_lines)


def sample(args: argparse.Namespace) -> None:
    """Write sampled images one by one."""
    model = _loaded(args)
    made = model.sample(args.height, args.width, args.seed, args.count, args.start_scale)
    folder = args.output or _beside(args.source) / f"samples-seed{args.seed}"
    for place, image in enumerate(made):
        save_png(image, folder / f"{place:05d}.png")
    print(f"{len(made)} images of {made.shape[3]}x{made.shape[2]} in {folder}")


def edit(args: argparse.Namespace) -> None:
    """Write the edited picture."""
    _write(args, _loaded(args).edit(args.image, args.mask, args.scale, args.seed), "edit")


def harmonise(args: argparse.Namespace) -> None:
    """Write the harmonised picture."""
    _write(args, _loaded(args).harmonise(args.image, args.mask, args.scale, args.seed), "harmonise")


def evaluate(args: argparse.Namespace) -> None:
    """Print the measures and SIFID."""
    features = load_features(args.extractor, args.extractor_weights)
    model = _loaded(args)
    measures, judged = measure(model, args.count, args.seed), sifid(model, features, args.count, args.seed)
    if args.json:
        values = {"source": str(args.source), **asdict(measures), "sifid": asdict(judged)}
        print(json.dumps(values, indent=2))
        return
    print(measures)
    print(judged)


def _loaded(args: argparse.Namespace) -> OneShotModel:
    with ranks(args.device) as group:
        return load_one_shot(args.source).to(group.device)


def _write(args: argparse.Namespace, made: Tensor, action: str) -> None:
    output = args.output or _beside(args.source) / f"{action}-{args.image.stem}.png"
    save_png(made, output)
    print(f"{made.shape[2]}x{made.shape[1]} pixels in {output}")


def _beside(source: Path) -> Path:
    return source if source.is_dir() else source.parent
