"""Attentions in a small ResNet on the embedded images, with paired seeds, common initial weights and unit gain.

    python benchmarks/attentions.py [--others]

Without `--others` it trains the plain network, constants, SE, ECA, CBAM, SASE and a random genotype, with six seeds
each; with it every other attention, with three seeds, which are too few for a verdict. Stop it at any time: started
again, it trains what has no row in `results/attentions.jsonl` yet, all networks with one seed before the next seed.
`tables.py` makes the tables.

The recipe is `embedded` (10 epochs) with images of 16×16, and a ResNet with one block in each stage, so that a
training takes less than a minute of one core.
"""

import argparse
import copy
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rows import add_row, read_rows

from sase_attn.attentions import ATTENTIONS
from sase_attn.comparison import attended
from sase_attn.comparison.networks import OWN_GAIN, PLAIN
from sase_attn.genotype import Genotype
from sase_attn.training.recipes import Recipe
from sase_attn.training.run import train

STUDY = "attentions"
BASE, AFTER = "resnet20_cifar", ["layer*.*.bn2"]
LAYERS = {"layers": [1, 1, 1]}
SIZE, SEEDS, SEEDS_OF_OTHERS = 16, 6, 3
RANDOM = str(Genotype.random(seed=0))  # its gain is 1.5, and its channel excitation is not a published one
JUDGED = {"se": "SE", "eca": "ECA", "cbam": "CBAM", "sase": "SASE", RANDOM: "random genotype"}
"""The attentions of the table with verdicts, and their labels."""
NOT_COMPARED = {"constant", "sase_paper"}
INSTEAD_OF_CONVOLUTION = {"psa", "spatial_sase", "spatial_sase_literal"}


def others() -> list[str]:
    """The attentions of the table without verdicts."""
    return [name for name in ATTENTIONS if name not in {*JUDGED, *NOT_COMPARED, *INSTEAD_OF_CONVOLUTION}]


def networks(attentions: list[str], *, constants: bool) -> dict[str, dict[str, Any]]:
    """Recipe fields by label: the plain network, and each attention at unit gain after the same layers."""
    made = attended(BASE, attentions, after=AFTER, base_args=LAYERS, constants=constants)
    return {JUDGED.get(label, label.removesuffix(OWN_GAIN)): fields for label, fields in made.items()}


def todo(*, of_others: bool) -> Iterator[tuple[str, Recipe]]:
    """Label and recipe of each training that has no row yet."""
    recipe = Recipe.get("embedded").override(size=SIZE, log_every=0)
    made = networks(others() if of_others else list(JUDGED), constants=not of_others)
    done = {(row["label"], row["seed"]) for row in read_rows(STUDY)}
    for seed in range(SEEDS_OF_OTHERS if of_others else SEEDS):
        for label, fields in made.items():
            if (label, seed) not in done:
                start_as = {} if label == PLAIN else {"model": BASE, **LAYERS}
                yield label, recipe.override(seed=seed, **copy.deepcopy(fields), start_as=start_as)


def main() -> None:
    """Run the trainings that have no row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--others", action="store_true", help="every other attention, three seeds each")
    args = parser.parse_args()
    for label, recipe in todo(of_others=args.others):
        folder = Path(tempfile.mkdtemp())
        try:
            row = asdict(train(recipe, folder / "run", device="cpu", echo=lambda line: None))
        finally:
            shutil.rmtree(folder)
        del row["output"]
        add_row(STUDY, {"label": label, "seed": recipe.seed, **row})
        print(f"{label}, seed {recipe.seed}: {row['top1']:.2f} % in {row['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
