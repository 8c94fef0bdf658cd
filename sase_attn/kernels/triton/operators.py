"""The kernels as operators `torch.ops.sase_attn.…`, for CUDA, and for the CPU under Triton's interpreter.

Importing this module imports Triton. Outputs are dense in the layout of x; any other layout than contiguous and
channels_last is copied to a contiguous one first. float64 is accumulated in float64, all else in float32.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from sase_attn.kernels import layout, spec
from sase_attn.kernels.schemas import SCHEMAS
from sase_attn.kernels.triton import launches
from sase_attn.kernels.triton.gate import gate_kernel

# Triton reads the variable TRITON_INTERPRET when it decorates a kernel.
INTERPRETED = isinstance(gate_kernel, InterpretedFunction)


def _fake_reduce(
    x: Tensor, weight: Tensor | None, over: int, unweighted: int, weighted: int, *affine: Tensor | None
) -> tuple[Tensor, Tensor]:
    return launches.empty_values(x, over, unweighted, weighted)


def _fake_weight_backward(
    x: Tensor, weight: Tensor, grads: Tensor, values: Tensor, saved: Tensor, weighted: int
) -> Tensor:
    return x.new_empty((len(x), x.shape[1]), dtype=spec.accumulator(x.dtype))


def _fake_channels_backward(x: Tensor, weight: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    channels, acc = x.shape[1], spec.accumulator(x.dtype)
    return x.new_empty((2, channels), dtype=acc), x.new_empty(0 if weight is None else (len(x), channels), dtype=acc)


def _fake_gate(x: Tensor, *rest: Any) -> Tensor:
    return _like(x)


def _fake_sums(x: Tensor, y: Tensor | None, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    acc = spec.accumulator(x.dtype)
    sizes = (x.shape[1], x.shape[2] * x.shape[3])
    channel, position = (x.new_empty((len(x), size), dtype=acc) for size in sizes)
    return channel, position, x.new_empty(0) if y is None else _like(x)


def _fake_normalised_sums(x: Tensor, y: Tensor | None, g: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return *_fake_sums(x, y, g), x.new_empty((2, x.shape[1]), dtype=spec.accumulator(x.dtype))


def _fake_map_backward(x: Tensor, *rest: Any) -> Tensor:
    return _like(x)


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=layout.dense_format(x))


def _on_its_device(launch: Callable[..., Any]) -> Callable[..., Any]:
    """Make the tensors' device the current one for a launch, because Triton launches on the current device."""

    def run(x: Tensor, *args: Any) -> Any:
        with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
            return launch(x, *args)

    return run


_LIBRARY = torch.library.Library("sase_attn", "FRAGMENT")
_FUNCTIONS: tuple[tuple[Callable[..., Any], Callable[..., Any]], ...] = (
    (launches.reduce, _fake_reduce),
    (launches.weight_backward, _fake_weight_backward),
    (launches.channels_backward, _fake_channels_backward),
    (launches.gate, _fake_gate),
    (launches.sums, _fake_sums),
    (launches.normalised_sums, _fake_normalised_sums),
    (launches.map_backward, _fake_map_backward),
)
for schema, (launch, fake) in zip(SCHEMAS, _FUNCTIONS, strict=True):
    name = _LIBRARY.define(schema, tags=torch.Tag.pt2_compliant_tag)
    torch.library.register_fake(f"sase_attn::{name}", fake, lib=_LIBRARY)
    for key in ("CUDA", "CPU") if INTERPRETED else ("CUDA",):
        _LIBRARY.impl(name, _on_its_device(launch), key)

reduce = torch.ops.sase_attn.reduce.default
weight_backward = torch.ops.sase_attn.weight_backward.default
channels_backward = torch.ops.sase_attn.channels_backward.default
gate = torch.ops.sase_attn.gate.default
sums = torch.ops.sase_attn.sums.default
normalised_sums = torch.ops.sase_attn.normalised_sums.default
map_backward = torch.ops.sase_attn.map_backward.default
