"""The block's kernels on a GPU: correct first, then time against the definition, torch.compile and a copy.

    python benchmarks/kernels_gpu.py [OUTPUT.jsonl]         about 5 minutes; needs CUDA and Triton

bfloat16, batch 256, the shapes and layouts below, training mode. A row a measurement: milliseconds (median; the L2
cache is flushed between runs), copies of x measured in the same run, and percent of copy bandwidth at the bytes that
the block has to move where nothing stays on chip: 4 maps forward, 6 more backward. Stops after 8 minutes.
"""

import copy
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sase_attn import SASEBlock, kernels
from sase_attn.training.result import write_text

SHAPES = [(256, 256, 56, 56), (256, 2048, 7, 7)]
LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
MAPS = {"forward": 4, "forward+backward": 10}
LIMIT_S = 480


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """‖actual − expected‖ / ‖expected‖ in float64."""
    return ((actual.double() - expected.double()).norm() / expected.double().norm()).item()


def step(block: nn.Module, x: Tensor) -> list[Tensor]:
    """Output and the gradients of its sum of squares."""
    x = x.detach().requires_grad_()
    y = block(x)
    return [y.detach(), *torch.autograd.grad(y.float().square().sum(), [x, *block.parameters()])]


def check() -> None:
    """Compare the block by kernels with float64, on odd sizes, all types and layouts; raises where they differ."""
    limits = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}
    for layout in LAYOUTS.values():
        for shape in [(3, 24, 9, 5), (2, 64, 56, 56), (5, 256, 7, 7)]:
            for dtype, limit in limits.items():
                torch.manual_seed(0)
                block = SASEBlock(shape[1], gate_init="release").cuda()
                x = torch.randn(shape, device="cuda").to(dtype).contiguous(memory_format=layout)
                with kernels.use("triton"):
                    found, again = (step(copy.deepcopy(block), x) for _ in range(2))
                assert all(map(torch.equal, found, again)), f"{shape} {dtype}: two runs differ"
                with kernels.use("torch"):
                    expected = step(copy.deepcopy(block).double(), x.double())
                worst = max(map(relative_error, found[:2], expected[:2]))
                assert worst <= limit, f"{shape} {dtype} {layout}: relative error {worst:.1e}, allowed {limit:.0e}"


def milliseconds(function: Callable[[], Any]) -> float:
    """Median over runs of a call, the cache flushed before each."""
    from triton.testing import do_bench

    return float(do_bench(function, warmup=50, rep=200, return_mode="median"))


def variants(block: nn.Module) -> dict[str, Callable[[Tensor], Tensor]]:
    """The block by every implementation."""

    def eager(x: Tensor) -> Tensor:
        with kernels.use("torch"):
            return block(x)

    def fused(x: Tensor) -> Tensor:
        with kernels.use("triton"):
            return block(x)

    return {"definition": eager, "kernels": fused, "compiled": torch.compile(copy.deepcopy(block))}


def measure(shape: tuple[int, int, int, int], layout: str, started: float) -> list[dict[str, Any]]:
    """Rows of one shape in one layout."""
    x = torch.randn(shape, device="cuda", dtype=torch.bfloat16).contiguous(memory_format=LAYOUTS[layout])
    target, cotangent = torch.empty_like(x), torch.randn_like(x)
    one_copy = milliseconds(lambda: target.copy_(x))
    rows: list[dict[str, Any]] = []
    for name, call in variants(SASEBlock(shape[1]).cuda().train()).items():
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()

        def forward(call: Callable[[Tensor], Tensor] = call) -> None:
            with torch.no_grad():
                call(x)

        def both(call: Callable[[Tensor], Tensor] = call, leaf: Tensor = leaf) -> None:
            leaf.grad = None
            call(leaf).backward(cotangent)

        for mode, run in (("forward", forward), ("forward+backward", both)):
            if time.monotonic() - started > LIMIT_S:
                return rows
            run()  # compiles
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            run()
            peak = (torch.cuda.max_memory_allocated() - before) / (x.numel() * x.element_size())
            ms = milliseconds(run)
            percent = 100 * MAPS[mode] / 2 * one_copy / ms
            measured = dict(ms=ms, copies=ms / one_copy, percent_of_copy=percent, peak_maps=peak)
            rows.append(dict(shape=shape, layout=layout, variant=name, mode=mode, copy_ms=one_copy, **measured))
    return rows


def main(output: Path) -> None:
    """Check, measure, write the rows, print a table."""
    started = time.monotonic()
    check()
    machine = dict(gpu=torch.cuda.get_device_name(), torch=torch.__version__, cuda=torch.version.cuda, dtype="bfloat16")
    rows = [machine | row for shape in SHAPES for layout in LAYOUTS for row in measure(shape, layout, started)]
    write_text(output, "".join(json.dumps(row) + "\n" for row in rows))
    print(machine)
    for row in rows:
        where = "×".join(map(str, row["shape"]))
        print(
            f"{where:16} {row['layout']:13} {row['mode']:17} {row['variant']:10} {row['ms']:8.3f} ms "
            f"{row['copies']:6.1f} copies {row['percent_of_copy']:5.0f} % {row['peak_maps']:5.1f} maps at peak"
        )


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("benchmarks/kernels_gpu.py needs a CUDA device")
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "kernels_gpu.jsonl"))
