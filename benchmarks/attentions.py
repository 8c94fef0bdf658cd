"""Attentions in ResNet-20 on the embedded images: paired seeds, a common start, equal starting gain.

    python benchmarks/attentions.py [--others] [--jobs 2]

Without `--others`: the plain network, constants, SE, ECA, CBAM, SASE and a random genotype, six seeds each. With it:
every other attention, three seeds each, which is too few for a verdict. Stop it at any time: started again, it trains
what has no row in `results/attentions.jsonl` yet. `tables.py` makes the tables.

The recipe is `embedded` (10 epochs) with images of 16×16, so that a training takes two minutes of one core.
"""

import argparse
import copy
from typing import Any

from studies import Case
from train import add_arguments, run_study

from sase_attn.attentions import ATTENTIONS
from sase_attn.comparison import attended
from sase_attn.comparison.networks import OWN_GAIN, PLAIN
from sase_attn.genotype import Genotype
from sase_attn.training.recipes import Recipe

STUDY = "attentions"
BASE, AFTER = "resnet20_cifar", ["layer*.*.bn2"]
SIZE, SEEDS, SEEDS_OF_OTHERS = 16, 6, 3
RANDOM = str(Genotype.random(seed=0))  # it starts at 1.5, and has none of the published excitations on channels
JUDGED = {"se": "SE", "eca": "ECA", "cbam": "CBAM", "sase": "SASE", RANDOM: "random genotype"}
"""The attentions of the table with verdicts, and their labels."""
NOT_COMPARED = {"constant", "sase_paper"}
STANDS_ELSEWHERE = {"psa"}  # it takes the place of a convolution


def others() -> list[str]:
    """The attentions of the table without verdicts."""
    return [name for name in ATTENTIONS if name not in {*JUDGED, *NOT_COMPARED, *STANDS_ELSEWHERE}]


def networks(attentions: list[str], *, constants: bool) -> dict[str, dict[str, Any]]:
    """Recipe fields by label: the plain network, and each attention at unit gain behind the same layers."""
    made = attended(BASE, attentions, after=AFTER, constants=constants)
    return {JUDGED.get(label, label.removesuffix(OWN_GAIN)): fields for label, fields in made.items()}


def cases(*, of_others: bool) -> list[Case]:
    """What is trained."""
    recipe = Recipe.get("embedded").override(size=SIZE, log_every=0)
    made = networks(others() if of_others else list(JUDGED), constants=not of_others)
    return [
        Case(
            label,
            recipe.override(**copy.deepcopy(fields), start_as={} if label == PLAIN else {"model": BASE}),
            SEEDS_OF_OTHERS if of_others else SEEDS,
        )
        for label, fields in made.items()
        if not (of_others and label == PLAIN)
    ]


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--others", action="store_true", help="every other attention, three seeds each")
    add_arguments(parser)
    args = parser.parse_args()
    run_study(STUDY, cases(of_others=args.others), args)


if __name__ == "__main__":
    main()
