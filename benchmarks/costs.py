"""The costs of every attention in ResNet-20: time of a training step and of inference, and memory.

    python benchmarks/costs.py [--rounds 3] [--only TEXT] [--device cuda]

Rows go to `results/compare_cost.jsonl`, and `tables.py` makes one table of them and of older trainings of the same
networks. `benchmarks/attentions.py` trains attentions with paired seeds.
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
from rows import add_row, origin
from studies import NETWORKS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sase_attn.genotype import Genotype
from sase_attn.models.placement import PLACEMENTS
from sase_attn.modules import count_parameters

# The paper's random genotype is not published; this one has its parameters, 25.59M and 44.62M in ResNet-50 and -101.
RANDOM = Genotype.random(seed=0)


def networks() -> dict[str, dict[str, Any]]:
    """The networks by label: `model` and `model_kwargs` of a recipe."""
    plain = {label: {"model": name} for label, name in NETWORKS.items()}
    random = {"SASE random": {"model": NETWORKS["SASE"], "model_kwargs": {"genotype": str(RANDOM)}}}
    return plain | random | {attention: {"model": f"{attention}_resnet20"} for attention in PLACEMENTS}


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
    """Measure all networks in turn, each in a process of its own, for several rounds, and print medians."""
    labels = [label for label in networks() if args.only in label]
    found: dict[str, list[dict[str, float]]] = {label: [] for label in labels}
    for _ in range(args.rounds):
        for label in labels:
            command = [sys.executable, str(Path(__file__)), "--case", label, "--device", args.device]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
            found[label].append(json.loads(done.stdout.splitlines()[-1]))
            print(label, found[label][-1], flush=True)
    place = origin(args.device)
    for label, rounds in found.items():
        row = {key: statistics.median(entry[key] for entry in rounds) for key in rounds[0]}
        steps = [entry["step_ms"] for entry in rounds]
        add_row("compare_cost", {"label": label, "seed": 0, **size(label), **row, "all_step_ms": steps, **place})


def _median(run: Callable[[], None], device: str, steps: int) -> float:
    """The median time in milliseconds, after two steps that are not counted."""
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
    """Measure all networks, or only the named one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="TEXT", default="", help="networks whose label has this text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--case", choices=list(networks()), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(cost(args.case, args.device, steps=5)))
    else:
        measure(args)


if __name__ == "__main__":
    main()
