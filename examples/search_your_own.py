"""Search for a block in your own network, on your own images, with an operation of your own among the candidates.

    python examples/search_your_own.py FOLDER [--epochs 20] [--output runs/own]

FOLDER holds train/<class>/* and val/<class>/*. Half of the training images train the weights, half choose the
operations; the genotype found is then retrained beside two random ones, the network without attention and a constant
factor in its place, on all of them. Stopped by Ctrl-C, the same command goes on. Needs
`pip install "sase-attn[search]"`.
"""

import argparse
from pathlib import Path

import torch
from torch import nn

from sase_attn import attach, register_op
from sase_attn.ops import Op
from sase_attn.search import SearchConfig, SearchSpace, search
from sase_attn.search.report import write_report


class Median(Op):
    """Median over C: an operation that no paper has."""

    def forward(self, x):
        return x.float().median(dim=1, keepdim=True).values


class Backbone(nn.Module):
    """Any network; blocks will follow the norms named `norm`."""

    def __init__(self, classes):
        super().__init__()
        self.stages = nn.Sequential(*(Stage(*widths) for widths in ((3, 16), (16, 32), (32, 64))))
        self.head = nn.Linear(64, classes)

    def forward(self, x):
        return self.head(self.stages(x).mean((2, 3)))


class Stage(nn.Module):
    """Half the resolution, then a residual branch."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU())
        self.conv = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        x = self.down(x)
        return torch.relu(x + self.norm(self.conv(x)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="FOLDER")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20, help="of the search")
    parser.add_argument("--train-epochs", type=int, default=10, help="of each training after it")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--output", type=Path, default=Path("runs/own"))
    args = parser.parse_args()

    register_op("spatial_squeeze", "median", Median)
    release = SearchSpace.get("release").without("channel_squeeze:l2norm")  # that one is a constant
    ops = {edge: (*names, "median") if "spatial_squeeze" in edge else names for edge, names in release.ops.items()}
    space = SearchSpace(ops)

    config = SearchConfig(
        data=args.data, size=args.size, epochs=args.epochs, batch_size=args.batch_size, lr=0.05, alpha_lr=6e-3
    )
    classes = sum(entry.is_dir() for entry in Path(args.data, "train").iterdir())

    def build(genotype):
        """The network with the mixtures, with a genotype, or (None) without attention."""
        network = Backbone(classes)
        if genotype is not None:
            attach(network, after="stages.*.norm", attn=genotype)
        return network

    torch.manual_seed(config.seed)
    model = build(space.block)
    resume = (args.output / "checkpoint.pt").exists()
    result = search(model, space, config=config, output=args.output, resume=resume)
    print(result.genotype, *result.warnings(), sep="\n  ")

    chosen = {"found": result.found, "random": space.random(0), "random too": space.random(1)}
    comparison = result.compare(
        chosen, seeds=[0, 1], epochs=args.train_epochs, build=build, scorer=result.scorer(model)
    )
    print(comparison.table())
    print(f"report: {write_report(args.output)}")


if __name__ == "__main__":
    main()
