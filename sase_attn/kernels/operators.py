"""The kernels as operators `torch.ops.sase_attn.…`, for CUDA, and for the CPU where Triton interprets.

Importing this module imports Triton. Outputs are dense in the layout of x; any other layout than contiguous and
channels_last is copied to a contiguous one first. float64 is accumulated in float64, all else in float32.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from sase_attn.kernels import launches, selection, triton_gate

# The variable TRITON_INTERPRET is read where kernels are decorated.
INTERPRETED = isinstance(triton_gate.gate_kernel, InterpretedFunction)

DEFINITIONS = (
    # Statistics `plain` (bits, see `selection`) of x (B, C, H, W), and `weighted` ones of x·weight (B, C), over the
    # positions (over = 2) or the channels (over = 1): rows (statistics, B, C or H·W), and rows for the backward pass.
    "reduce(Tensor x, Tensor? weight, int over, int plain, int weighted) -> (Tensor values, Tensor saved)",
    # Gradients of x, which `carried` is added to, and of the weight (empty without one), from those of the values.
    "reduce_backward(Tensor x, Tensor? weight, Tensor values, Tensor saved, Tensor grads, Tensor? carried, int over, "
    "int plain, int weighted) -> (Tensor dx, Tensor dweight)",
    # x·(channel + position) + shortcut, through a ReLU if `relu`, for gates (B, C) and (B, H·W).
    "gate(Tensor x, Tensor channel, Tensor position, Tensor? shortcut, bool relu) -> Tensor",
    # Gradients of x, both gates and the shortcut (empty unless `shortcut`); y is the output behind a ReLU, if any.
    "gate_backward(Tensor x, Tensor channel, Tensor position, Tensor? y, Tensor g, bool shortcut) -> "
    "(Tensor dx, Tensor dchannel, Tensor dposition, Tensor dshortcut)",
)


def _fake_reduce(x: Tensor, weight: Tensor | None, over: int, plain: int, weighted: int) -> tuple[Tensor, Tensor]:
    return launches.empty_values(x, over, plain, weighted)


def _fake_reduce_backward(
    x: Tensor, weight: Tensor | None, values: Tensor, saved: Tensor, grads: Tensor, carried: Tensor | None,
    over: int, plain: int, weighted: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    acc = selection.accumulator(x.dtype)
    return _like(x), x.new_empty((len(x), x.shape[1]) if weighted else 0, dtype=acc)


def _fake_gate(x: Tensor, channel: Tensor, position: Tensor, shortcut: Tensor | None, relu: bool) -> Tensor:
    return _like(x)


def _fake_gate_backward(
    x: Tensor, channel: Tensor, position: Tensor, y: Tensor | None, g: Tensor, shortcut: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    acc = selection.accumulator(x.dtype)
    sizes = (x.shape[1], x.shape[2] * x.shape[3])
    dchannel, dposition = (x.new_empty((len(x), size), dtype=acc) for size in sizes)
    return _like(x), dchannel, dposition, _like(x) if shortcut else x.new_empty(0)


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=selection.dense_format(x))


def _on_its_device(launch: Callable[..., Any]) -> Callable[..., Any]:
    """Triton launches on the current device, which need not be that of the tensors."""

    def run(x: Tensor, *args: Any) -> Any:
        with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
            return launch(x, *args)

    return run


_LIBRARY = torch.library.Library("sase_attn", "FRAGMENT")
_FUNCTIONS: tuple[tuple[Callable[..., Any], Callable[..., Any]], ...] = (
    (launches.reduce, _fake_reduce),
    (launches.reduce_backward, _fake_reduce_backward),
    (launches.gate, _fake_gate),
    (launches.gate_backward, _fake_gate_backward),
)
for definition, (launch, fake) in zip(DEFINITIONS, _FUNCTIONS, strict=True):
    name = _LIBRARY.define(definition, tags=torch.Tag.pt2_compliant_tag)
    torch.library.register_fake(f"sase_attn::{name}", fake, lib=_LIBRARY)
    for key in ("CUDA", "CPU") if INTERPRETED else ("CUDA",):
        _LIBRARY.impl(name, _on_its_device(launch), key)

reduce = torch.ops.sase_attn.reduce.default
reduce_backward = torch.ops.sase_attn.reduce_backward.default
gate = torch.ops.sase_attn.gate.default
gate_backward = torch.ops.sase_attn.gate_backward.default
