"""Detectors on backbones with and without attention, on blood cells (boxes) and nuclei (masks): one training each.

    python benchmarks/detection.py --data FOLDER --images FOLDER [--only TEXT] [--runs FOLDER]

FOLDER of `--data` has bccd/ and nuclei/ with images and COCO annotations; that of `--images` has train/<class>/* and
val/<class>/*, on which the backbones are trained first, with common initial weights and unit gain. One seed cannot
tell them apart, so there is no ranking. Stop it at any time, start it again, or start it twice: each process trains
what has no row in `results/detection.jsonl` and is not trained by another one. `tables.py` makes the tables. It takes
about four hours of one core.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import rows
import torch
from rows import Row, add_row, has_row

from sase_attn.detection import DetectionConfig, train_detector
from sase_attn.lock import Lock
from sase_attn.training import checkpoint
from sase_attn.training.recipes import Recipe
from sase_attn.training.run import train

STUDY, SEED, HOST = "detection", 0, "resnet18"
BACKBONES = {"plain": None, "SE": "se", "SASE": "sase"}
SETS = {
    "bccd": DetectionConfig.get("faster-rcnn-small").override(epochs=7, lr_drops=(5, 6), checkpoint_every=20),
    "nuclei": DetectionConfig.get("mask-rcnn-small").override(
        epochs=7,
        lr_drops=(5, 6),
        checkpoint_every=20,
        min_size=(256,),
        max_size=256,
        anchor_sizes=(8, 16, 32, 64, 128),
        detections_per_image=150,
    ),
}


def network(attention: str | None) -> dict[str, Any]:
    """`model` and `model_kwargs` of a backbone."""
    if attention is None:
        return {"model": HOST, "model_kwargs": {}}
    host = {"base": HOST, "after": ["layer*.*.bn2"], "attn": attention, "gain": "unit"}
    return {"model": "attached", "model_kwargs": host}


def backbone_recipe(attention: str | None, images: Path) -> Recipe:
    """The recipe of a backbone."""
    start: dict[str, Any] = {} if attention is None else {"start_as": {"model": HOST}}
    return Recipe(
        **network(attention),
        **start,
        data=str(images),
        size=64,
        batch_size=64,
        epochs=5,
        lr=0.1,
        warmup_epochs=1,
        clip_grad=5.0,
        checkpoint_every=50,
        seed=SEED,
    )


def detector_config(name: str, attention: str | None, data: Path, backbone: Path) -> DetectionConfig:
    """The configuration of a detector for one of `SETS`."""
    made = network(attention)
    return SETS[name].override(
        data=str(data / name),
        backbone=made["model"],
        backbone_kwargs=made["model_kwargs"],
        init_from=str(backbone),
        seed=SEED,
    )


def row_of(name: str, label: str, attention: str | None, folders: tuple[Path, Path, Path], runs: Path) -> Row:
    """Train a backbone and a detector, unless done, and return the row of the detector."""
    data, images, folder = folders
    backbone = runs / f"backbone-{label}"
    resume = (backbone / checkpoint.NAME).exists()
    learned = train(backbone_recipe(attention, images), backbone, resume=resume, device="cpu")
    config = detector_config(name, attention, data, backbone)
    found = train_detector(config, folder, resume=(folder / checkpoint.NAME).exists(), device="cpu")
    return {
        "label": f"{name}, {label}",
        "seed": SEED,
        "set": name,
        "network": label,
        "backbone_top1": learned.top1,
        "metrics": asdict(found.metrics),
        "best_ap": found.best_ap,
        "parameters": found.parameters,
        "seconds": found.seconds,
        "config": {**found.config, "data": name, "init_from": f"backbone-{label}"},
        "machine": found.machine,
        "versions": found.versions,
        "commit": found.commit,
    }


def main() -> None:
    """Run the trainings that have no row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="with bccd/ and nuclei/")
    parser.add_argument(
        "--images", type=Path, required=True, metavar="FOLDER", help="images that backbones learn first"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="detectors whose label contains this")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/detection"), metavar="FOLDER")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows.RESULTS.mkdir(exist_ok=True)
    for label, attention in BACKBONES.items():
        lock = Lock(rows.RESULTS / f".{STUDY}_{label}.lock")
        if not lock.acquire(wait=False):
            continue
        try:
            for name in SETS:
                if args.only in f"{name}, {label}" and not has_row(STUDY, f"{name}, {label}", SEED):
                    folder = args.runs / f"{name}-{label}"
                    row = row_of(name, label, attention, (args.data, args.images, folder), args.runs)
                    add_row(STUDY, row)
                    print(f"{row['label']}: box AP50 {row['metrics']['boxes']['ap50']:.3f}", flush=True)
        finally:
            lock.release()


if __name__ == "__main__":
    main()
