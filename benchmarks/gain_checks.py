"""Do the results of `gain.py` at unit gain also hold with other ways to reach that gain, and other learning rates?

    python benchmarks/gain_checks.py --data FOLDER [--seeds 12]

`FOLDER` is CIFAR-10 as an image folder. The setting is that of `gain.py` with 240 steps. Dividing a gate by its
starting gain g makes the gate itself learn 1/g² times as fast. Two other ways do not. Either the gate is *centred*, so
that the module returns attention(x) + (1 − g)·x; or the result is multiplied by a *learned gain*, which starts at 1/g.
Learning rates are half and twice that of `gain.py`. Stop it at any time: started again, it continues. Rows are in
`results/gain_checks.jsonl`, and `tables.py` makes the table.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gain import ATTENTIONS, LR, load, networks, one, recipe_of
from rows import add_row, read_rows
from torch import Tensor, nn

from sase_attn.attentions import create_attention, starting_gain
from sase_attn.comparison.networks import PLAIN

STUDY, STEPS = "gain_checks", 240
REACHED = ("SE", "CBAM", "SASE")
RATES = (LR / 2, 2 * LR)
AT_RATES = (PLAIN, "SE", "SE, unit gain", "SASE", "SASE, unit gain")


class Centred(nn.Module):
    """attention(x) + (1 − g)·x: a gate that starts around 1 and learns as fast as published."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention
        self.rest = 1 - starting_gain(attention)

    def forward(self, x: Tensor) -> Tensor:
        """The attention of x plus (1 − g)·x."""
        result: Tensor = self.attention(x) + self.rest * x
        return result


class LearnedGain(nn.Module):
    """s·attention(x), where the scalar s starts at 1/g and is learned."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention
        self.gain = nn.Parameter(torch.tensor(1 / starting_gain(attention)))

    def forward(self, x: Tensor) -> Tensor:
        """The attention of x times the scalar."""
        result: Tensor = self.gain * self.attention(x)
        return result


WAYS = {"centred": Centred, "learned gain": LearnedGain}


def wrap(model: nn.Module, kind: type[nn.Module], attention: type[nn.Module]) -> int:
    """Wrap every attention of a class in a module of `kind`; returns how many there are."""
    found = [name for name, module in model.named_modules() if type(module) is attention]
    for name in found:
        model.set_submodule(name, kind(model.get_submodule(name)))
    return len(found)


def cases() -> Iterator[tuple[str, dict[str, Any], float, str | None]]:
    """Label, recipe fields, learning rate and way to reach unit gain of each network."""
    known = networks()
    for attention in REACHED:
        for way in WAYS:
            yield f"{attention}, {way}", known[attention], LR, way
    for lr in RATES:
        for label in AT_RATES:
            yield f"{label}, lr {lr:g}", known[label], lr, None


def main() -> None:
    """Run the trainings that have no row, all networks with one seed before the next seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="CIFAR-10 as an image folder")
    parser.add_argument("--seeds", type=int, default=12, metavar="N")
    args = parser.parse_args()
    arrays = load(args.data)
    done = {(row["label"], row["seed"]) for row in read_rows(STUDY)}
    for seed in range(args.seeds):
        for label, fields, lr, way in cases():
            if (label, seed) in done:
                continue
            change = None
            if way is not None:
                attention = type(create_attention(ATTENTIONS[label.partition(",")[0]], 64))
                change = partial(wrap, kind=WAYS[way], attention=attention)
            row = one(label, recipe_of(label, fields, seed, STEPS, args.data.name, lr), arrays, change)
            add_row(STUDY, row | {"way": way})
            print(f"{label}, seed {seed}: {row['top1']:.2f} % in {row['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
