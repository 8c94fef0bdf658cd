"""Errors of the finite difference in the gradient of alpha during a search, and the cost of the exact gradient.

    python benchmarks/subset.py CIFAR10 data --train 200 --test 10
    python benchmarks/search_gradient.py data [--only TEXT] [--steps N]

The search is that of the recipe `release` with second order (ResNet-20, nine blocks), but with images of 16×16 and
batches of 32. It follows the exact gradient. At every second step the finite difference is also computed, with several
radii, in float32 and in float64; in float32 also the gradient of the released code, whose last stage takes no virtual
step. Errors are relative to the norm of the exact gradient. CPU seconds of a step are measured in turn, in one process
and on one thread, at the sizes of the recipes. Stop it at any time: started again, it continues. Rows are in
`results/search_gradient.jsonl`.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from rows import add_row, origin, read_rows
from torch import Tensor

from sase_attn.search.config import SEARCHES, SearchConfig
from sase_attn.search.shared_weights.bilevel import Batch, Bilevel
from sase_attn.search.shared_weights.halves import open_halves
from sase_attn.search.shared_weights.hvp import exact, finite_difference
from sase_attn.search.shared_weights.network import architecture_of, create_supernet, prepare
from sase_attn.search.shared_weights.optimizers import create_optimizers
from sase_attn.training.distributed import Ranks

RADII = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
TYPES = {"float32": torch.float32, "float64": torch.float64}
SEEDS = (0, 1, 2)
ROUNDS = 4


class Compared(Bilevel):
    """Steps by the exact gradient, which record it and the errors of finite differences."""

    def alpha_gradient(self, train: Batch, val: Batch) -> tuple[Tensor, Tensor, float]:
        self.gradient, second, loss = super().alpha_gradient(train, val)
        return self.gradient, second, loss

    def _second_order(self, train: Batch, direction: Sequence[Tensor]) -> Tensor:
        def loss() -> Tensor:
            return self._loss(train)

        truth = exact(self.model, loss, self.alpha, self.weights, direction)
        self.distances = {
            radius: (finite_difference(loss, self.alpha, self.weights, direction, radius=radius) - truth).norm().item()
            for radius in RADII
        }
        return truth


def errors(config: SearchConfig, dtype: torch.dtype, steps: int) -> dict[str, Any]:
    """Relative errors of the gradient of alpha in `steps` steps: by radius, without the second order, as released."""
    data = open_halves(config, Ranks(0, 1, torch.device("cpu")))
    model, parts = _parts(config, dtype, len(data.info.classes), data.info.size)
    plain, compared = Bilevel(model, *parts, order=1), Compared(model, *parts, hvp="exact")
    released = Bilevel(model, *parts, hvp="exact", unmoved=("layer3",))
    found: dict[str, list[float]] = {f"{radius:.0e}": [] for radius in RADII}
    found |= {"dropped": [], "released": []}
    step = epoch = 0
    while step < 2 * steps:
        for train, val in zip(data.weights.epoch(epoch), data.alpha.epoch(epoch), strict=True):
            train, val = ((images.to(dtype), targets) for images, targets in (train, val))
            if step % 2:
                plain.weight_step(train)
            else:
                theirs = released.alpha_gradient(train, val)[0] if dtype == torch.float32 else None
                report = compared.step(train, val)
                norm = report.alpha_grad_norm
                if theirs is not None:
                    found["released"].append((theirs - compared.gradient).norm().item() / norm)
                found["dropped"].append(report.second_order_norm / norm)
                for radius, distance in compared.distances.items():
                    found[f"{radius:.0e}"].append(distance / norm)
            step += 1
            if step == 2 * steps:
                break
        epoch += 1
    return {key: [float(f"{value:.3g}") for value in values] for key, values in found.items()}


def seconds(config: SearchConfig) -> dict[str, Any]:
    """CPU seconds of a bilevel step by the finite difference and by the exact derivative, one after the other."""
    torch.set_num_threads(1)
    size, classes = config.size or 32, 10
    model, parts = _parts(config, torch.float32, classes, (size, size))
    train, val = (
        (torch.randn(config.batch_size, 3, size, size), torch.randint(classes, (config.batch_size,))) for _ in range(2)
    )
    times: dict[str, list[float]] = {"fd": [], "exact": []}
    for number in range(ROUNDS + 1):
        for hvp, taken in times.items():
            bilevel = Bilevel(model, *parts, hvp=hvp)
            start = time.process_time()
            bilevel.step(train, val)
            if number:  # the first step of each is a warm-up
                taken.append(round(time.process_time() - start, 3))
    medians = {hvp: statistics.median(taken) for hvp, taken in times.items()}
    return {**times, "ratio": medians["exact"] / medians["fd"], "batch_size": config.batch_size, "size": size}


def _parts(
    config: SearchConfig, dtype: torch.dtype, classes: int, size: tuple[int, int]
) -> tuple[Any, tuple[Any, ...]]:
    model = create_supernet(config, num_classes=classes, in_chans=3, size=size).to(dtype).train()
    architecture = architecture_of(model, config.search_space())
    prepare(model, architecture, config)
    return model, (architecture.alpha, *create_optimizers(config, model, architecture.alpha))


def main() -> None:
    """Make all measurements that have no row yet, and write their rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="image folder")
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="that are measured, of twice as many")
    args = parser.parse_args()
    done = {(row["label"], row["seed"]) for row in read_rows("search_gradient")}
    place = origin()
    config = SEARCHES["release"].override(data=args.data, order=2, split="drawn", size=16, batch_size=32)
    for label, dtype in TYPES.items():
        for seed in SEEDS:
            if args.only in label and (label, seed) not in done:
                start = time.process_time()
                row = errors(config.override(seed=seed), dtype, args.steps)
                used = round(time.process_time() - start)
                add_row("search_gradient", {"label": label, "seed": seed, **row, "cpu_seconds": used, **place})
                print(
                    label,
                    seed,
                    f"{used} s",
                    {key: statistics.median(values) for key, values in row.items() if values},
                    flush=True,
                )
    for name in ("paper", "quick"):
        label = f"step of {name}"
        if args.only in label and (label, 0) not in done:
            row = seconds(SEARCHES[name].override(order=2))
            add_row("search_gradient", {"label": label, "seed": 0, **row, **place})
            print(label, row, flush=True)


if __name__ == "__main__":
    main()
