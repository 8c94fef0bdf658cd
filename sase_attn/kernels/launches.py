"""Launches of the Triton kernels: layouts, tiles, memory for outputs and for what programs leave to be added up."""

import torch
import triton.language as tl
from torch import Tensor

from sase_attn.kernels import selection
from sase_attn.kernels.triton_gate import gate_backward_kernel, gate_kernel
from sase_attn.kernels.triton_reduce import STATE, merge_kernel, reduce_kernel
from sase_attn.kernels.triton_reduce_backward import channels_backward_kernel, space_backward_kernel


def reduce(x: Tensor, weight: Tensor | None, over: int, plain: int, weighted: int) -> tuple[Tensor, Tensor]:
    """See `operators.DEFINITIONS`."""
    layout = selection.dense_format(x)
    x = x.contiguous(memory_format=layout)
    channels, positions = x.shape[1], x.shape[2] * x.shape[3]
    channel, position = selection.strides(x, layout)
    if over == 1:
        k, r, stride_k, stride_r = positions, channels, position, channel
    else:
        k, r, stride_k, stride_r = channels, positions, channel, position
    if stride_k == 1:
        block_k, block_r = selection.tile(k, r)
    else:
        block_r, block_k = selection.tile(r, k)
    acc = selection.accumulator(x.dtype)
    values, saved = empty_values(x, over, plain, weighted)
    programs = len(x) * -(-k // block_k)
    pieces, chunk = selection.cut(r, block_r, programs)
    rows = len(x) * k
    sets = (plain != 0) + (weighted != 0)
    state = x.new_empty((pieces, sets, STATE.value, rows) if pieces > 1 else 0, dtype=acc)
    weight = values if weight is None else weight.to(acc).contiguous()
    shared = dict(PLAIN=plain, WEIGHTED=weighted, ACC=triton_type(acc))
    reduce_kernel[(programs * pieces,)](
        x, weight, values, saved, state, k, r, stride_k, stride_r, pieces, chunk, rows,
        CUT=pieces > 1, BLOCK_K=block_k, BLOCK_R=block_r, **shared,
    )  # fmt: skip
    if pieces > 1:
        block = min(128, selection.power_of_two(rows))
        merge_kernel[(-(-rows // block),)](values, saved, state, r, pieces, chunk, rows, BLOCK=block, **shared)
    return values, saved


def empty_values(x: Tensor, over: int, plain: int, weighted: int) -> tuple[Tensor, Tensor]:
    """What `reduce` gives, uninitialised."""
    kept = x.shape[2] * x.shape[3] if over == 1 else x.shape[1]
    counts = (plain.bit_count() + weighted.bit_count(), selection.saved_rows(plain) + selection.saved_rows(weighted))
    acc = selection.accumulator(x.dtype)
    values, saved = (x.new_empty((count, len(x), kept), dtype=acc) for count in counts)
    return values, saved


def reduce_backward(
    x: Tensor, weight: Tensor | None, values: Tensor, saved: Tensor, grads: Tensor, carried: Tensor | None,
    over: int, plain: int, weighted: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """See `operators.DEFINITIONS`."""
    layout = selection.dense_format(x)
    x = x.contiguous(memory_format=layout)
    if carried is not None:
        carried = carried.contiguous(memory_format=layout)
    grads = grads.contiguous()
    batch, channels, positions = len(x), x.shape[1], x.shape[2] * x.shape[3]
    channel, position = selection.strides(x, layout)
    acc = selection.accumulator(x.dtype)
    dx = torch.empty_like(x)
    block_c, block_p, pieces, chunk = selection.walk(batch, channels, positions, channel)
    grid = (batch * -(-channels // block_c) * pieces,)
    shared = dict(CARRIED=carried is not None, ACC=triton_type(acc), BLOCK_C=block_c, BLOCK_P=block_p)
    carried = dx if carried is None else carried
    if over != 1:
        space_backward_kernel[grid](
            x, values, grads, saved, carried, dx, channels, positions, channel, position, pieces, chunk,
            batch * channels, WHICH=plain, **shared,
        )  # fmt: skip
        return dx, x.new_empty(0, dtype=acc)
    dweight = x.new_empty((pieces, batch, channels) if weighted else 0, dtype=acc)
    weight = values if weight is None else weight.to(acc).contiguous()
    channels_backward_kernel[grid](
        x, weight, values, grads, saved, carried, dx, dweight, channels, positions, channel, position, pieces, chunk,
        batch * positions, batch * channels, PLAIN=plain, WEIGHTED=weighted, **shared,
    )  # fmt: skip
    return dx, dweight.sum(0) if weighted else dweight


def gate(x: Tensor, channel: Tensor, position: Tensor, shortcut: Tensor | None, relu: bool) -> Tensor:
    """See `operators.DEFINITIONS`."""
    layout = selection.dense_format(x)
    x = x.contiguous(memory_format=layout)
    batch, channels, positions = len(x), x.shape[1], x.shape[2] * x.shape[3]
    acc = selection.accumulator(x.dtype)
    strides = selection.strides(x, layout)
    y = torch.empty_like(x)
    block_c, block_p, pieces, chunk = selection.walk(batch, channels, positions, strides[0])
    gate_kernel[(batch * -(-channels // block_c) * pieces,)](
        x, channel.to(acc).contiguous(), position.to(acc).contiguous(),
        y if shortcut is None else shortcut.contiguous(memory_format=layout), y, channels, positions, *strides, pieces,
        chunk, SHORTCUT=shortcut is not None, RELU=relu, ACC=triton_type(acc), BLOCK_C=block_c, BLOCK_P=block_p,
    )  # fmt: skip
    return y


def gate_backward(
    x: Tensor, channel: Tensor, position: Tensor, y: Tensor | None, g: Tensor, shortcut: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `operators.DEFINITIONS`."""
    layout = selection.dense_format(x)
    x, g = x.contiguous(memory_format=layout), g.contiguous(memory_format=layout)
    batch, channels, positions = len(x), x.shape[1], x.shape[2] * x.shape[3]
    acc = selection.accumulator(x.dtype)
    strides = selection.strides(x, layout)
    dx = torch.empty_like(x)
    dshortcut = torch.empty_like(x) if shortcut else x.new_empty(0)
    block_c, block_p, pieces, chunk = selection.walk(batch, channels, positions, strides[0])
    tiles = -(-channels // block_c)
    dchannel = x.new_empty((pieces, batch, channels), dtype=acc)
    dposition = x.new_empty((tiles, batch, positions), dtype=acc)
    gate_backward_kernel[(batch * tiles * pieces,)](
        x, channel.to(acc).contiguous(), position.to(acc).contiguous(),
        x if y is None else y.contiguous(memory_format=layout), g, dx, dchannel, dposition, dshortcut,
        channels, positions, *strides, pieces, chunk, batch * channels, batch * positions,
        SHORTCUT=shortcut, RELU=y is not None, ACC=triton_type(acc), BLOCK_C=block_c, BLOCK_P=block_p,
    )  # fmt: skip
    return dx, dchannel.sum(0), dposition.sum(0), dshortcut


def triton_type(dtype: torch.dtype) -> tl.dtype:
    """Triton's name of an accumulator."""
    return tl.float64 if dtype == torch.float64 else tl.float32
