"""Attentions at published and at unit gain, beside constants: short trainings with paired seeds.

    python benchmarks/gain.py --data FOLDER [--steps 240] [--seeds 12] [--only TEXT]

`FOLDER` is CIFAR-10 as an image folder. Stop it at any time: started again, it trains what has no row in
`results/gain_STEPS.jsonl` yet, all networks with one seed before the next seed. `tables.py` makes the tables.

The setting: 16×16 images (768 training images a class, the 10,000 test images), a ResNet of one block a stage whose
stem has stride 2 (maps of 8, 4 and 2), batch 64, SGD with momentum 0.9, a cosine from lr 0.1, no augmentation. Two
epochs are 240 steps. Networks of a seed start with the same weights and see the same batches.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rows import add_row, read_rows
from torch import Tensor, nn

from sase_attn.comparison.networks import PLAIN
from sase_attn.genotype import Genotype
from sase_attn.modules import count_parameters
from sase_attn.training.data import DataConfig
from sase_attn.training.data.folder import scan
from sase_attn.training.data.in_memory import identity_of, memory_loaders
from sase_attn.training.data.open_folder import NORMALISATION
from sase_attn.training.data.order import Shard
from sase_attn.training.data.reading import read_images
from sase_attn.training.data.sets import Arrays
from sase_attn.training.network import create_network
from sase_attn.training.recipes import Recipe
from sase_attn.training.run import train

SIZE, A_CLASS, BATCH, STEPS_AN_EPOCH, LR = 16, 768, 64, 120, 0.1
AFTER = ["layer*.*.bn2"]
LAYERS: dict[str, Any] = {"layers": [1, 1, 1]}
HOST = {"model": "resnet20_cifar", **LAYERS}
CONSTANTS = {"constant 0.5": 0.5, "constant 1.25": 1.25, "constant 1.5": 1.5}
# The random genotypes are two draws without the channel excitations of the published genotypes.
ATTENTIONS = {
    "SE": "se",
    "ECA": "eca",
    "CBAM": "cbam",
    "SASE": "sase",
    "SASE, text": "sase_paper",
    "random 0": str(Genotype.random(seed=0)),
    "random 1": str(Genotype.random(seed=1)),
}


def networks() -> dict[str, dict[str, Any]]:
    """`model` and `model_kwargs` of each network, by label."""
    made = {PLAIN: {"model": HOST["model"], "model_kwargs": LAYERS}}
    made |= {label: attached("constant", attn_args={"value": value}) for label, value in CONSTANTS.items()}
    made["learned scalar"] = attached("constant", attn_args={"learned": True})
    for label, attn in ATTENTIONS.items():
        made[label] = attached(attn)
        made[f"{label}, unit gain"] = attached(attn, gain="unit")
    return made


def attached(attn: str, **more: Any) -> dict[str, Any]:
    """`model` and `model_kwargs` of the network with an attention, or a genotype, after the last norm of each block.

    Args:
        attn: the name of the attention, or the genotype.
        more: further arguments of the model.
    """
    host = {"base": HOST["model"], "after": AFTER, "attn": attn}
    return {"model": "attached", "model_kwargs": {**LAYERS, **host, **more}}


def load(folder: Path) -> Arrays:
    """The first images of each class, at the size of the setting."""
    found = scan(folder)
    splits: list[tuple[Tensor, Tensor]] = []
    for split, most in ((found.train, A_CLASS), (found.test, 10**9)):
        places = [
            int(place)
            for target in range(len(found.classes))
            for place in torch.nonzero(split.targets == target).flatten()[:most]
        ]
        images, broken = read_images([split.paths[place] for place in places], SIZE)
        assert not broken
        splits.append((images, split.targets[torch.tensor(places)]))
    return Arrays("CIFAR-10 at 16x16", found.classes, *NORMALISATION, splits[0], splits[1])


def recipe_of(label: str, fields: dict[str, Any], seed: int, steps: int, data: str, lr: float = LR) -> Recipe:
    """The recipe of one training; the stride of the stem is not in it."""
    return Recipe(
        data=data,
        size=SIZE,
        augment="none",
        batch_size=BATCH,
        epochs=steps // STEPS_AN_EPOCH,
        lr=lr,
        seed=seed,
        log_every=0,
        start_as={} if fields["model"] == HOST["model"] else HOST,
        **fields,
    )


def one(
    label: str, recipe: Recipe, arrays: Arrays, change: Callable[[nn.Module], object] | None = None
) -> dict[str, Any]:
    """Train one network with one seed, and return its row.

    Args:
        label, recipe, arrays: the label, recipe and images of the training.
        change: applied to the network with its initial weights, before training.
    """
    loaders = memory_loaders(arrays, identity_of(arrays), DataConfig.of(recipe), Shard(recipe.seed))
    model = create_network(recipe, num_classes=len(arrays.classes), in_chans=3)
    stem = model.get_submodule("conv1")
    stem.stride = (2, 2)  # type: ignore[assignment]
    if change is not None:
        change(model)
    folder = Path(tempfile.mkdtemp())
    try:
        result = train(recipe, folder / "run", model=model, data=loaders, device="cpu", echo=lambda line: None)
    finally:
        shutil.rmtree(folder)
    return {
        "label": label,
        "seed": recipe.seed,
        "steps": recipe.epochs * STEPS_AN_EPOCH,
        "parameters": count_parameters(model),
        "top1": result.top1,
        "loss": result.loss,
        "count": result.count,
        "seconds": result.seconds,
        "recipe": json.loads(recipe.to_json()),
        "machine": result.machine,
        "versions": result.versions,
        "commit": result.commit,
    }


def todo(study: str, seeds: int, only: str) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Label, fields and seed of each training without a row, all networks with one seed before the next seed."""
    done = {(row["label"], row["seed"]) for row in read_rows(study)}
    for seed in range(seeds):
        for label, fields in networks().items():
            if only in label and (label, seed) not in done:
                yield label, fields, seed


def main() -> None:
    """Run the trainings that have no row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="CIFAR-10 as an image folder")
    parser.add_argument("--steps", type=int, default=240, help="of a training, a multiple of 120")
    parser.add_argument("--seeds", type=int, default=12, metavar="N")
    parser.add_argument("--only", default="", metavar="TEXT", help="labels that contain this")
    args = parser.parse_args()
    study = f"gain_{args.steps}"
    arrays = load(args.data)
    for label, fields, seed in todo(study, args.seeds, args.only):
        row = one(label, recipe_of(label, fields, seed, args.steps, args.data.name), arrays)
        add_row(study, row)
        print(f"{label}, seed {seed}: {row['top1']:.2f} % in {row['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
