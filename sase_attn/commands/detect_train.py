"""`sase-attn detect train`: train a detector on annotated images, by a recipe whose fields are the flags."""

import argparse
import re
from functools import partial
from pathlib import Path
from typing import Any

from sase_attn.commands.arguments import add_command
from sase_attn.commands.flags import add_flags, given_flags, summary
from sase_attn.detection.config import DETECTION_RECIPES, DetectionConfig
from sase_attn.detection.training.checkpoint import load_detection
from sase_attn.detection.training.run import train_detector
from sase_attn.training.distributed import ranks

_DEFAULT = "faster-rcnn-r50"


def add_parser(parts: Any) -> None:
    """Add `train` to the parts of `sase-attn detect`."""
    sub = add_command(parts, "train", run, "Train a detector on COCO-format data; stop it and resume it at any time.")
    sub.epilog = (
        "torchrun --nproc-per-node 2 -m sase_attn detect train … trains on two devices, with the same global batch."
    )
    text = f"{', '.join(DETECTION_RECIPES)}, or a .json file (default: {_DEFAULT}); flags change it"
    sub.add_argument("--recipe", metavar="NAME", help=text)
    sub.add_argument("--output", type=Path, metavar="FOLDER", help="default: runs/<recipe>-<backbone>-seed<seed>")
    sub.add_argument("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    sub.add_argument("--device", help="cpu, cuda or cuda:N (default: CUDA where there is a device)")
    sub.add_argument("--show", action="store_true", help="print the recipe as JSON and train nothing")
    add_flags(sub.add_argument_group("fields of the recipe"), DetectionConfig)


def run(args: argparse.Namespace) -> None:
    """Train, and print COCO's numbers and the line that loads the detector."""
    flags = given_flags(args, DetectionConfig)
    name = args.recipe or _DEFAULT
    resumed = args.resume and args.recipe is None and args.output is not None
    start = load_detection(args.output).settings if resumed else DetectionConfig.get(name)
    config = start.override(**flags)
    if args.show:
        print(config.to_json())
        return
    words = (Path(name).stem if name.endswith(".json") else name, config.backbone, f"seed{config.seed}")
    output = args.output or Path("runs") / re.sub(r"[^\w.-]+", "-", "-".join(words))
    with ranks(args.device) as group:
        echo = group.on_main(partial(print, flush=True))
        echo(summary(config, f"recipe of {output}" if resumed else f"recipe {name}"))
        result = train_detector(config, output, resume=args.resume, device=args.device, echo=echo)
        echo(f"{result.metrics.images} validation images, the last epoch's weights:")
        echo(result.metrics.table(per_class=True))
        best = f"{'mask' if config.has_masks else 'box'} AP {result.best_ap:.3f}"
        echo(f"after {result.seconds:.0f} s of training and evaluation; best epoch {result.best_epoch + 1}: {best}")
        echo(f"files: {output} (model.safetensors, best.safetensors, result.json, curves.png, log.jsonl, "
             "checkpoint.pt, detection.json)")  # fmt: skip
        echo("load the best with")
        echo(result.load_line)
