"""Time and memory of a bilevel step: the fast implementation, and the reference, run as in the release.

    python benchmarks/search_step.py [--rounds 3] [--compile] [--only TEXT]

The setting is B = 128, the paper's network with 9 blocks, 32×32, float32. Each case is measured in a process of its
own, all cases in turn, for several rounds; ratios are of medians. Rows are in `results/search_step.jsonl`.

In the release, the network is copied for the virtual step, and the loss of the copy is back-propagated to all of its
parameters. The finite difference adds R·v to the weights in place, subtracts it twice and adds it again; each gradient
is of all parameters.
"""

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from memory import peak_mb
from rows import add_row, origin
from torch import Tensor, nn

from sase_attn.search.config import SearchConfig
from sase_attn.search.shared_weights.bilevel import Batch, Bilevel
from sase_attn.search.shared_weights.network import architecture_of, create_supernet, prepare
from sase_attn.search.shared_weights.optimizers import create_optimizers

CASES: dict[str, dict[str, Any]] = {
    "reference, as the release": dict(order=2, reference=True, compile=False),
    "reference": dict(order=2, reference=True, compile=False),
    "fast": dict(order=2, reference=False, compile=False),
    "fast, first order": dict(order=1, reference=False, compile=False),
    "compiled": dict(order=2, reference=False, compile=True),
}


def release_step(model: nn.Module, alpha: nn.Parameter, optimizer: torch.optim.SGD, train: Batch, val: Batch) -> None:
    """Compute the gradient of alpha as the release does, then take a step of the weights."""

    def loss_of(network: nn.Module, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(network(batch[0]), batch[1])

    group = optimizer.param_groups[0]
    names = dict(model.named_parameters())
    loss_of(model, train).backward()
    moved = {}
    with torch.no_grad():
        for name, parameter in names.items():
            if parameter.grad is not None and parameter is not alpha:
                buffer = optimizer.state.get(parameter, {}).get("momentum_buffer", torch.zeros_like(parameter))
                step = parameter.grad + group["weight_decay"] * parameter + group["momentum"] * buffer
                moved[name] = parameter - group["lr"] * step
    virtual = copy.deepcopy(model)
    virtual.load_state_dict(virtual.state_dict() | moved)
    model.zero_grad()
    virtual.zero_grad()
    loss_of(virtual, val).backward()
    vector = {name: p.grad for name, p in virtual.named_parameters() if p.grad is not None and name in moved}
    radius = 1e-2 / torch.cat([v.flatten() for v in vector.values()]).norm()
    for scale in (radius, -2 * radius):
        with torch.no_grad():
            for name, v in vector.items():
                names[name].add_(scale * v)
        loss_of(model, train).backward()
        model.zero_grad()
    with torch.no_grad():
        for name, v in vector.items():
            names[name].add_(radius * v)
    loss_of(model, train).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    model.zero_grad()


def measure(label: str, steps: int) -> dict[str, float]:
    """Seconds of the first step and the median of later ones, and memory beyond that of the network itself."""
    torch.manual_seed(0)
    config = SearchConfig(hvp="fd", **CASES[label])
    model = create_supernet(config, num_classes=10, in_chans=3).train()
    architecture = architecture_of(model, config.search_space())
    prepare(model, architecture, config)
    optimizer, alpha_optimizer = create_optimizers(config, model, architecture.alpha)
    bilevel = Bilevel(model, architecture.alpha, optimizer, alpha_optimizer, order=config.order, hvp=config.hvp)
    train, val = ((torch.randn(128, 3, 32, 32), torch.randint(10, (128,))) for _ in range(2))

    def step() -> None:
        if "release" in label:
            release_step(model, architecture.alpha, optimizer, train, val)
        else:
            bilevel.step(train, val)

    before = peak_mb()
    first = _seconds(step)
    times = [_seconds(step) for _ in range(steps)]
    return {"first": first, "seconds": statistics.median(times), "memory_mb": peak_mb() - before}


def _seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Measure all cases in turn, print ratios, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="in each round, after a first one that is not counted")
    parser.add_argument("--compile", action="store_true", help="also the compiled blocks: minutes of compilation")
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(args.case, args.steps)))
        return
    found: dict[str, list[dict[str, float]]] = {}
    for number in range(args.rounds):
        for label in CASES:
            if args.only in label and (args.compile or label != "compiled") and (label != "compiled" or number == 0):
                command = [sys.executable, str(Path(__file__)), "--case", label, "--steps", str(args.steps)]
                done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
                found.setdefault(label, []).append(json.loads(done.stdout.splitlines()[-1]))
                print(label, found[label][-1], flush=True)
    place = origin()
    for label, rounds in found.items():
        row = {key: statistics.median(entry[key] for entry in rounds) for key in rounds[0]}
        spread = [entry["seconds"] for entry in rounds]
        add_row("search_step", {"label": label, "seed": 0, **row, "all_seconds": spread, **place})


if __name__ == "__main__":
    main()
