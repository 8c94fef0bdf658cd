"""One-shot synthesis of photos, measured by reconstruction, spread of samples and SIFID, with a sheet of samples.

    python benchmarks/one_shot.py PHOTO [PHOTO ...] [--runs FOLDER] [--size 64] [--scales 3] [--iterations 100]

Each photo is learned in a folder of its own below `--runs`, so that an interrupted study can be resumed. One row for
each is written to `benchmarks/results/one_shot.jsonl`. `--sheet FILE` puts the sheets of all photos below each other.
"""

import argparse
import math
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image
from rows import add_row

from sase_attn.spatially_adaptive.synthesis.one_shot import (
    OneShotConfig,
    OneShotModel,
    load_one_shot,
    measure,
    train_one_shot,
)
from sase_attn.spatially_adaptive.synthesis.one_shot.features import load_features
from sase_attn.spatially_adaptive.synthesis.one_shot.pyramid import as_values
from sase_attn.spatially_adaptive.synthesis.one_shot.sheet import model_sheet, sheet_of
from sase_attn.spatially_adaptive.synthesis.one_shot.sifid import sifid

STUDY = "one_shot"
SAMPLES = 16
WIDER = 1.8


def wide_deviation(model: OneShotModel) -> float:
    """The standard deviation over the pixels of a sample 1.8 times as wide as the image, the mean over channels."""
    height, width = model.sizes[-1]
    made = as_values(model.sample(height, math.ceil(WIDER * width))[0])
    return float(made.flatten(2).std(2).mean())


def study(photo: Path, config: OneShotConfig, runs: Path) -> OneShotModel:
    """Train on a photo, or resume, measure the model, and add its row."""
    output = runs / f"{photo.stem}-seed{config.seed}"
    started = (output / "checkpoint.pt").is_file()
    result = train_one_shot(photo, output, config, resume=started, device="cpu")
    model = load_one_shot(output)
    row = {
        "label": photo.stem,
        "seed": config.seed,
        "config": result.config,
        "sizes": result.sizes,
        "parameters": result.parameters,
        **asdict(measure(model, SAMPLES)),
        "wide_deviation": wide_deviation(model),
        "sifid": asdict(sifid(model, load_features(), SAMPLES)),
        "machine": result.machine,
        "versions": result.versions,
        "commit": result.commit,
    }
    add_row(STUDY, row)
    return model


def main() -> None:
    """Train on each photo in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+", metavar="PHOTO")
    parser.add_argument("--runs", type=Path, default=Path("runs/one-shot"), metavar="FOLDER")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--scales", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE", help="the sheets of all photos below each other, twice as large"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = OneShotConfig(
        size=args.size, scales=args.scales, iterations=args.iterations, seed=args.seed, checkpoint_every=20
    )
    models = [study(photo, config, args.runs) for photo in args.photos]
    if args.sheet is not None:
        sheet = sheet_of([[model_sheet(model)] for model in models])
        picture = Image.fromarray(sheet.permute(1, 2, 0).numpy())
        picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.NEAREST).save(args.sheet, quality=75)


if __name__ == "__main__":
    main()
