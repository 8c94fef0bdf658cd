"""Speed of detectors in training and inference: without attention, with SE and with SASE, also fused.

    python benchmarks/detection_speed.py [--recipe mask-rcnn-small] [--device cuda] [--rounds 5]

All detectors are measured in one process, in turns, so that changes of the machine's speed do not affect their ratios.
The images are noise with ten objects each, of the sizes after the recipe's resizing; heads, proposals and batch size
are the recipe's. A step is forward, backward and SGD. Weights are random, and no detection is dropped for its score,
so that inference does the most work possible. Rows are written to `results/detection_speed.jsonl`; `tables.py` makes
the table.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from rows import Row, put_rows
from speed_timing import Clock
from torch import Tensor, nn

from sase_attn import fuse
from sase_attn.detection import DETECTION_RECIPES, DetectionConfig, create_detector
from sase_attn.kernels import backend
from sase_attn.training.provenance import provenance

STUDY = "detection_speed"
PREFIXES = {"plain": "", "SE": "se", "SASE": "sase_"}
VARIANTS = [(label, fused) for fused in (False, True) for label in PREFIXES]
OBJECTS, CLASSES = 10, 80


def configs(recipe: str, resnet: str) -> dict[str, DetectionConfig]:
    """The recipe with each backbone, keeping detections of any score."""
    base = DETECTION_RECIPES[recipe].override(score_threshold=0.0)
    return {label: base.override(backbone=f"{prefix}{resnet}") for label, prefix in PREFIXES.items()}


def inputs(config: DetectionConfig, device: str) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """The images of a step, 4:3 at the size that the network sees, and their objects."""
    generator = torch.Generator().manual_seed(0)
    height = config.min_size[-1]
    width = min(height * 4 // 3, config.max_size)
    images, targets = [], []
    for _ in range(config.batch_size):
        start = torch.rand(OBJECTS, 2, generator=generator) * torch.tensor([width * 0.6, height * 0.6])
        sides = 8 + torch.rand(OBJECTS, 2, generator=generator) * torch.tensor([width * 0.3, height * 0.3])
        target = {"boxes": torch.cat([start, start + sides], 1), "labels": torch.arange(1, OBJECTS + 1)}
        if config.has_masks:
            target["masks"] = torch.ones(OBJECTS, height, width, dtype=torch.uint8)
        images.append(torch.rand(3, height, width, generator=generator).to(device))
        targets.append({name: value.to(device) for name, value in target.items()})
    return images, targets


def training(config: DetectionConfig, device: str, fused: bool) -> Callable[[], None]:
    """A function that runs one training step."""
    model = create_detector(config, CLASSES, echo=lambda line: None).to(device).train()
    if fused:
        fuse(model, training=True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-4, momentum=0.9)
    images, targets = inputs(config, device)

    def run() -> None:
        with backend("triton") if fused and device == "cuda" else nullcontext():
            optimizer.zero_grad()
            losses: dict[str, Tensor] = model(images, targets)
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()

    return run


def inference(config: DetectionConfig, device: str, fused: bool) -> Callable[[], None]:
    """A function that detects objects in one image."""
    model: nn.Module = create_detector(config, CLASSES, echo=lambda line: None).to(device).eval()
    if fused:
        fuse(model)
    image = inputs(config, device)[0][:1]

    def run() -> None:
        with torch.inference_mode():
            model(image)

    return run


def measured(recipe: str, resnet: str, device: str, rounds: int, minutes: float) -> list[Row]:
    """One row for each variant, with medians in milliseconds: first training of all in turns, then inference."""
    by_label = configs(recipe, resnet)
    rows: dict[tuple[str, bool], Row] = {}
    for key, make, count in (
        ("step", training, by_label["plain"].batch_size),
        ("inference", inference, 1),
    ):
        variants = [(label, fused) for label, fused in VARIANTS if not (fused and label == "plain" and key == "step")]
        runs = [make(by_label[label], device, fused) for label, fused in variants]
        for run in runs:
            run()
        samples = Clock(device).interleaved(runs, rounds, time.monotonic() + 60 * minutes)
        for (label, fused), times in zip(variants, samples, strict=True):
            row = rows.setdefault((label, fused), {"label": f"{label}, fused" if fused else label, "seed": 0})
            row |= {f"{key}_ms": statistics.median(times), f"all_{key}_ms": times, f"{key}_images": count}
        del runs
    place = {
        **provenance(torch.device(device)),
        "recipe": recipe,
        "resnet": resnet,
        "size": by_label["plain"].min_size[-1],
    }
    return [row | place for row in rows.values()]


def main() -> None:
    """Measure, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="faster-rcnn-small", choices=list(DETECTION_RECIPES))
    parser.add_argument("--resnet", default="resnet18", metavar="NAME", help="resnet18, resnet50 or resnet101")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--minutes", type=float, default=30, metavar="N", help="of training, and of inference, at most")
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = measured(args.recipe, args.resnet, args.device, args.rounds, args.minutes)
    same = ("recipe", "resnet", "machine", "device")
    put_rows(STUDY, rows, lambda old: all(old[name] == rows[0][name] for name in same))
    for row in rows:
        print({name: value for name, value in row.items() if name in ("label", "step_ms", "inference_ms")}, flush=True)


if __name__ == "__main__":
    main()
