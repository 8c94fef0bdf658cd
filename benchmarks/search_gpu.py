"""A search on one GPU: correctness, the time of a step, and an estimate for the paper's whole search.

    python benchmarks/search_gpu.py CIFAR10 [--minutes 8] [--device cuda]

CIFAR10 is an image folder (train/, test/ or val/). The script first compares the fast implementation and the reference
with each other and with the CPU. Then it measures the seconds of a step: of first and second order; fast, reference and
compiled; NCHW and channels_last. Last it runs the paper's search for as long as the minutes allow, and extrapolates to
its 50 epochs. The report is written to `search_gpu.json` in the current folder, and printed at the end. Steps are eager
or compiled; none is replayed as a CUDA graph.
"""

import argparse
import copy
import itertools
import json
import statistics
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from sase_attn.files import write_json
from sase_attn.search.config import SearchConfig
from sase_attn.search.shared_weights.bilevel import Batch, Bilevel
from sase_attn.search.shared_weights.checkpoint import load_search
from sase_attn.search.shared_weights.halves import open_halves
from sase_attn.search.shared_weights.loop import Searcher
from sase_attn.search.shared_weights.network import architecture_of, create_supernet, prepare
from sase_attn.search.shared_weights.optimizers import create_optimizers
from sase_attn.search.space import SearchSpace
from sase_attn.search.supernet.block import SearchBlock
from sase_attn.training.distributed import ranks
from sase_attn.training.provenance import commit, machine


def agreement(device: torch.device) -> dict[str, float]:
    """Largest differences of outputs and gradients relative to the largest value, for one block at three stages."""
    found: dict[str, float] = {}
    for dtype, channels, size in itertools.product((torch.float64, torch.float32), (16, 64), (32, 8)):
        torch.manual_seed(0)
        reference = SearchBlock(channels, SearchSpace.get("release"), reference=True, dtype=dtype)
        x, cotangent = torch.randn(2, 8, channels, size, size, dtype=dtype)
        fast = copy.deepcopy(reference)
        fast.reference = False
        truth = _values(reference, x, cotangent)
        for name, block in (("reference", reference), ("fast", fast)):
            values = _values(block.to(device), x.to(device), cotangent.to(device))
            worst = max(float((a.cpu() - b).abs().max() / b.abs().max().clamp_min(1e-30)) for a, b in zip(
                values, truth, strict=True
            ))  # fmt: skip
            key = f"{name} on {device.type} against reference on the CPU, {str(dtype).removeprefix('torch.')}"
            found[key] = max(found.get(key, 0.0), worst)
    return found


def _values(block: SearchBlock, x: torch.Tensor, cotangent: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    y = block(x)
    return [y.detach(), *torch.autograd.grad((y * cotangent).sum(), [x, block.shared_architecture.alpha])]


def steps(device: torch.device, batch: int, count: int) -> dict[str, dict[str, float]]:
    """Seconds of the first step, and the median of later ones, for each way to run it."""
    found = {}
    for order, reference, compiled, channels_last in (
        (2, True, False, False),
        (2, False, False, False),
        (2, False, False, True),
        (1, False, False, False),
        (2, False, True, False),
    ):
        torch.manual_seed(0)
        config = SearchConfig(order=order, hvp="fd", reference=reference, compile=compiled, channels_last=channels_last)
        model = create_supernet(config, num_classes=10, in_chans=3)
        architecture = architecture_of(model, config.search_space())
        prepare(model, architecture, config)
        model.to(device).train()
        alpha = architecture.alpha
        bilevel = Bilevel(model, alpha, *create_optimizers(config, model, alpha), order=order, hvp=config.hvp)
        layout = torch.channels_last if channels_last else torch.contiguous_format

        def images(layout: torch.memory_format = layout) -> Batch:
            x = torch.randn(batch, 3, 32, 32, device=device).to(memory_format=layout)
            return x, torch.randint(10, (batch,), device=device)

        times = []
        for _ in range(count + 1):
            train, val = images(), images()
            start = time.perf_counter()
            bilevel.step(train, val)  # reading the losses waits for the device
            times.append(time.perf_counter() - start)
        words = [f"order {order}", "reference" if reference else "fast", *["compiled"] * compiled]
        name = ", ".join([*words, *["channels_last"] * channels_last])
        found[name] = {"first": times[0], "seconds": statistics.median(times[1:])}
        print(name, found[name], flush=True)
    return found


def whole(data: str, seconds: float, device: str, folder: Path) -> dict[str, Any]:
    """Run the paper's search until the time is up; returns epochs done, seconds, and the time for all of its epochs."""
    config = SearchConfig(data=data, size=32)
    with ranks(device) as group:
        halves = open_halves(config, group)
        model = create_supernet(config, num_classes=len(halves.info.classes), in_chans=3)
        start = time.perf_counter()

        def echo(line: str) -> None:
            print(line, flush=True)
            if time.perf_counter() - start > seconds:
                raise TimeoutError

        searcher = Searcher(config, model, halves, folder, group, echo)
        with suppress(TimeoutError):
            searcher.run(load_search(folder) if (folder / "checkpoint.pt").exists() else None)
        done = max(1, len(searcher.progress.genotypes))
        took = time.perf_counter() - start
    whole_search = {f"of {config.epochs} epochs": config.epochs * took / done}
    return {"epochs": done, "seconds": took, **whole_search, "genotype": searcher.genotype}


def main() -> None:
    """Check, measure, and write and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=Path("runs/search-gpu"), help="of the search; it resumes")
    args = parser.parse_args()
    start, device = time.perf_counter(), torch.device(args.device)
    report: dict[str, Any] = {"agreement": agreement(device), "steps": steps(device, args.batch, args.steps)}
    left = 60 * args.minutes - (time.perf_counter() - start) - 20
    report["search"] = whole(args.data, left, args.device, args.folder)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    report |= {"device": name, "machine": machine(), "torch": torch.__version__, "commit": commit()}
    write_json("search_gpu.json", report)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
