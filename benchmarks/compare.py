"""Every attention in ResNet-20 by one recipe: accuracy, then the cost of a step, of inference, and of memory.

    python benchmarks/compare.py embedded [--jobs 2] [--only TEXT]       every attention, 2 seeds
    python benchmarks/compare.py cifar --data FOLDER [--seeds 3]         the networks of the paper's table
    python benchmarks/compare.py cost [--rounds 3] [--device cuda]       times and memory, all networks in turn

Stop it at any time: started again, it resumes what was interrupted and leaves what has its row. The recipes are
`embedded`, and `cifar` for 10 epochs with clipping and warm-up; `FOLDER` is an image folder. Rows go to
`results/compare_embedded.jsonl`, `compare_cifar.jsonl` and `compare_cost.jsonl`, and `tables.py` makes one table of
them. On a GPU: `cifar --data cifar10 --epochs 100 --seeds 3`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from memory import peak_mb
from rows import add_row
from studies import NETWORKS, Case
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from train import add_arguments, run_study

from sase_attn.genotype import Genotype
from sase_attn.models.placement import PLACEMENTS
from sase_attn.modules import count_parameters
from sase_attn.training.provenance import commit, machine
from sase_attn.training.recipes import Recipe

# The paper's random genotype is not published; this draw has its size, 25.59M and 44.62M in ResNet-50 and -101.
RANDOM = Genotype.random(seed=0)
PAPER = ("plain", "se", "cbam", "srm", "gsop", "eca", "autola", "gct_gaussian", "mca_e", "ean", "SASE", "SASE random")


def networks() -> dict[str, dict[str, Any]]:
    """The networks by label: `model` and `model_kwargs` of a recipe."""
    plain = {label: {"model": name} for label, name in NETWORKS.items()}
    random = {"SASE random": {"model": NETWORKS["SASE"], "model_kwargs": {"genotype": str(RANDOM)}}}
    return plain | random | {attention: {"model": f"{attention}_resnet20"} for attention in PLACEMENTS}


def embedded(seeds: int = 2) -> list[Case]:
    """Every network by the `embedded` recipe."""
    return [Case(label, Recipe.get("embedded").override(**network), seeds) for label, network in networks().items()]


def cifar(data: str, epochs: int = 10, seeds: int = 1) -> list[Case]:
    """The networks of the paper's table on CIFAR-10 as an image folder, or another data set of its size."""
    recipe = Recipe.get("cifar").override(data=data, size=32, epochs=epochs, clip_grad=5.0, warmup_epochs=1)
    return [Case(label, recipe.override(**networks()[label]), seeds) for label in PAPER]


def cost(label: str, device: str, steps: int) -> dict[str, float]:
    """Milliseconds of a training step and of inference at batch 128, 32×32, and the memory that training adds."""
    torch.manual_seed(0)
    network = networks()[label]
    model = timm.create_model(network["model"], **network.get("model_kwargs", {})).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, target = torch.randn(128, 3, 32, 32, device=device), torch.randint(10, (128,), device=device)

    def train() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), target).backward()
        optimizer.step()

    def infer() -> None:
        with torch.inference_mode():
            model(x)

    before = _peak(device)
    step = _median(train, device, steps)
    memory = _peak(device) - before
    model.eval()
    return {"step_ms": step, "inference_ms": _median(infer, device, steps), "memory_mb": memory}


def size(label: str) -> dict[str, int]:
    """Parameters, and MACs of one 32×32 image (convolutions and matrix products)."""
    network = networks()[label]
    model = timm.create_model(network["model"], device="meta", **network.get("model_kwargs", {})).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, 32, 32, device="meta"))
    return {"parameters": count_parameters(model), "macs": counter.get_total_flops() // 2}


def measure(args: argparse.Namespace) -> None:
    """Costs of all networks: each in a process of its own, all in turn, several rounds, medians of them."""
    labels = [label for label in networks() if args.only in label]
    found: dict[str, list[dict[str, float]]] = {label: [] for label in labels}
    for _ in range(args.rounds):
        for label in labels:
            command = [sys.executable, str(Path(__file__)), "cost", "--case", label, "--device", args.device]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
            found[label].append(json.loads(done.stdout.splitlines()[-1]))
            print(label, found[label][-1], flush=True)
    where = machine() if args.device == "cpu" else torch.cuda.get_device_name(args.device)
    place = {"machine": where, "versions": {"torch": torch.__version__, "timm": timm.__version__}, "commit": commit()}
    for label, rounds in found.items():
        row = {key: statistics.median(entry[key] for entry in rounds) for key in rounds[0]}
        steps = [entry["step_ms"] for entry in rounds]
        add_row("compare_cost", {"label": label, "seed": 0, **size(label), **row, "all_step_ms": steps, **place})


def _median(run: Callable[[], None], device: str, steps: int) -> float:
    """Milliseconds, the median after two that are not counted."""
    times = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        run()
        if device != "cpu":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[2:])


def _peak(device: str) -> float:
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_mb()


def main() -> None:
    """Train a study, or measure costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=["embedded", "cifar", "cost"])
    parser.add_argument("--data", metavar="FOLDER", help="of cifar")
    parser.add_argument("--epochs", type=int, default=10, help="of cifar")
    parser.add_argument("--seeds", type=int, help="default: 2 of embedded, 1 of cifar")
    parser.add_argument("--rounds", type=int, default=3, help="of cost")
    parser.add_argument("--device", default="cpu", help="of cost")
    parser.add_argument("--case", choices=list(networks()), help=argparse.SUPPRESS)
    add_arguments(parser)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(cost(args.case, args.device, steps=5)))
    elif args.study == "cost":
        measure(args)
    elif args.study == "embedded":
        run_study("compare_embedded", embedded(args.seeds or 2), args)
    elif not args.data:
        parser.error("cifar needs --data FOLDER")
    else:
        run_study("compare_cifar", cifar(args.data, args.epochs, args.seeds or 1), args)


if __name__ == "__main__":
    main()
