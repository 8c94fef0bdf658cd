"""Launches of the Triton kernels: layouts, tiles, and memory for outputs and for partial sums."""

import torch
import triton.language as tl
from torch import Tensor

from sase_attn.kernels import layout, spec
from sase_attn.kernels.triton.backward import channels_backward_kernel, map_backward_kernel
from sase_attn.kernels.triton.gate import gate_kernel, sums_kernel
from sase_attn.kernels.triton.reduce import STATE, merge_kernel, reduce_kernel


def reduce(
    x: Tensor, weight: Tensor | None, over: int, unweighted: int, weighted: int, sign: Tensor | None = None,
    scale_shift: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Statistics over the positions or the channels, and the rows saved for the backward pass."""
    dense = layout.dense_format(x)
    x = x.contiguous(memory_format=dense)
    channels, positions = x.shape[1], x.shape[2] * x.shape[3]
    channel, position = layout.strides(x, dense)
    if over == 1:
        k, r, stride_k, stride_r = positions, channels, position, channel
    else:
        k, r, stride_k, stride_r = channels, positions, channel, position
    if stride_k == 1:
        block_k, block_r = layout.tile(k, r)
    else:
        block_r, block_k = layout.tile(r, k)
    acc = spec.accumulator(x.dtype)
    values, saved = empty_values(x, over, unweighted, weighted)
    programs = len(x) * -(-k // block_k)
    pieces, chunk = layout.cut(r, block_r, programs)
    rows = len(x) * k
    sets = (unweighted != 0) + (weighted != 0)
    state = x.new_empty((pieces, sets, STATE.value, rows) if pieces > 1 else 0, dtype=acc)
    weight = values if weight is None else _row(weight, acc)
    options = dict(UNWEIGHTED=unweighted, WEIGHTED=weighted, ACC=triton_type(acc))
    reduce_kernel[(programs * pieces,)](
        x, weight, *_affine(x, sign, scale_shift), values, saved, state, k, r, stride_k, stride_r, pieces, chunk, rows,
        **_given(sign, scale_shift), OF_CHANNELS=over == 2, CUT=pieces > 1, BLOCK_K=block_k, BLOCK_R=block_r, **options,
    )  # fmt: skip
    if pieces > 1:
        block = min(128, layout.power_of_two(rows))
        merge_kernel[(-(-rows // block),)](values, saved, state, r, pieces, chunk, rows, BLOCK=block, **options)
    return values, saved


def empty_values(x: Tensor, over: int, unweighted: int, weighted: int) -> tuple[Tensor, Tensor]:
    """Uninitialised memory for the results of `reduce`."""
    kept = x.shape[2] * x.shape[3] if over == 1 else x.shape[1]
    counts = (unweighted.bit_count() + weighted.bit_count(), spec.saved_rows(unweighted) + spec.saved_rows(weighted))
    acc = spec.accumulator(x.dtype)
    values, saved = (x.new_empty((count, len(x), kept), dtype=acc) for count in counts)
    return values, saved


def weight_backward(x: Tensor, weight: Tensor, grads: Tensor, values: Tensor, saved: Tensor, weighted: int) -> Tensor:
    """Gradient (B, C) of the weight, through statistics of x·weight over the channels."""
    return _channel_sums(x, weight, grads, values, saved, 0, weighted, None, None)[:, 0].sum(0)


def channels_backward(
    x: Tensor, weight: Tensor | None, grads: Tensor, values: Tensor, saved: Tensor, unweighted: int, weighted: int,
    sign: Tensor | None, scale_shift: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of scale and shift (2, C), and of the weight (B, C), through statistics over the channels."""
    weighted = 0 if weight is None else weighted
    sums = _channel_sums(x, weight, grads, values, saved, unweighted, weighted, sign, scale_shift)
    dweight = sums[:, 2].sum(0) if weighted else sums.new_zeros(0 if weight is None else sums.shape[2:])
    return sums[:, :2].sum((0, 2)), dweight


def _channel_sums(
    x: Tensor, weight: Tensor | None, grads: Tensor, values: Tensor, saved: Tensor, unweighted: int, weighted: int,
    sign: Tensor | None, scale_shift: Tensor | None,
) -> Tensor:  # fmt: skip
    """Partial sums of the gradients of scale, shift and weight, as far as needed: (pieces, 1 to 3, B, C)."""
    dense = layout.dense_format(x)
    x = x.contiguous(memory_format=dense)
    batch, channels, positions = len(x), x.shape[1], x.shape[2] * x.shape[3]
    acc = spec.accumulator(x.dtype)
    strides = layout.strides(x, dense)
    block_c, block_p, pieces, chunk = layout.walk(batch, channels, positions, strides[0])
    rows = 2 * (scale_shift is not None) + (weighted != 0)
    sums = x.new_empty((pieces, rows, batch, channels), dtype=acc)
    channels_backward_kernel[(batch * -(-channels // block_c) * pieces,)](
        x, sums if weight is None else _row(weight, acc), *_affine(x, sign, scale_shift), _row(grads, acc),
        _row(values, acc), _row(saved, acc), sums, channels, positions, *strides, pieces, chunk, batch * channels,
        batch * positions, UNWEIGHTED=unweighted, WEIGHTED=weighted, **_given(sign, scale_shift), ACC=triton_type(acc),
        BLOCK_C=block_c, BLOCK_P=block_p,
    )  # fmt: skip
    return sums


def gate(
    x: Tensor, channel: Tensor, position: Tensor, shortcut: Tensor | None, relu: bool, sign: Tensor | None = None,
    scale_shift: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The gated map, plus a shortcut, through a ReLU if `relu`."""
    dense = layout.dense_format(x)
    x = x.contiguous(memory_format=dense)
    batch, channels, positions = len(x), x.shape[1], x.shape[2] * x.shape[3]
    acc = spec.accumulator(x.dtype)
    strides = layout.strides(x, dense)
    y = torch.empty_like(x)
    block_c, block_p, pieces, chunk = layout.walk(batch, channels, positions, strides[0])
    gate_kernel[(batch * -(-channels // block_c) * pieces,)](
        x, *_affine(x, sign, scale_shift), _row(channel, acc), _row(position, acc),
        y if shortcut is None else shortcut.contiguous(memory_format=dense), y, channels, positions, *strides, pieces,
        chunk, **_given(sign, scale_shift), SHORTCUT=shortcut is not None, RELU=relu, ACC=triton_type(acc),
        BLOCK_C=block_c, BLOCK_P=block_p,
    )  # fmt: skip
    return y


def sums(x: Tensor, y: Tensor | None, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the gates, and g, set to 0 where the ReLU's output y is 0."""
    return _gate_sums(x, y, g, (), None, None)[:3]


def normalised_sums(
    x: Tensor, y: Tensor | None, g: Tensor, channel: Tensor, position: Tensor, sign: Tensor | None, scale_shift: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the gates; g, set to 0 where the ReLU's output y is 0; gradients of scale and shift."""
    dchannel, dposition, masked, slopes = _gate_sums(x, y, g, (channel, position), sign, scale_shift)
    return dchannel, dposition, masked, slopes.sum((0, 2))


def _gate_sums(
    x: Tensor, y: Tensor | None, g: Tensor, gates: tuple[Tensor, ...], sign: Tensor | None, scale_shift: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The results of `sums`, and partial sums (n, 2, B, C) of the gradients of scale and shift."""
    dense = layout.dense_format(x)
    x, g = x.contiguous(memory_format=dense), g.contiguous(memory_format=dense)
    batch, sizes = len(x), (x.shape[1], x.shape[2] * x.shape[3])
    acc = spec.accumulator(x.dtype)
    strides = layout.strides(x, dense)
    kept, walked = (0, 1) if strides[0] == 1 else (1, 0)
    block_k, block_r = layout.tile(sizes[kept], sizes[walked])
    tiles = -(-sizes[kept] // block_k)
    pieces, chunk = layout.cut(sizes[walked], block_r, batch * tiles)
    partial = [x.new_empty((n, batch, sizes[axis]), dtype=acc) for n, axis in ((pieces, kept), (tiles, walked))]
    masked = x.new_empty(0) if y is None else torch.empty_like(x)
    slopes = x.new_empty((pieces if kept == 0 else tiles, 2, batch, sizes[0]) if gates else 0, dtype=acc)
    rows = [_row(gates[axis], acc) if gates else slopes for axis in (kept, walked)]
    sums_kernel[(batch * tiles * pieces,)](
        x, x if y is None else y.contiguous(memory_format=dense), g, *_affine(x, sign, scale_shift), *rows, *partial,
        slopes, masked, sizes[kept], sizes[walked], strides[kept], strides[walked], pieces, chunk, batch * sizes[kept],
        batch * sizes[walked], RELU=y is not None, **_given(sign, scale_shift), KEEPS_CHANNELS=kept == 0,
        ACC=triton_type(acc), BLOCK_K=block_k, BLOCK_R=block_r,
    )  # fmt: skip
    found = [parts.sum(0) for parts in partial]
    return found[kept], found[walked], masked, slopes


def map_backward(
    x: Tensor, g: Tensor | None, channel: Tensor | None, position: Tensor | None, space_grads: Tensor | None,
    space_values: Tensor | None, space_saved: Tensor | None, weight: Tensor | None, grads: Tensor | None,
    values: Tensor | None, saved: Tensor | None, space: int, unweighted: int, weighted: int,
    sign: Tensor | None = None, scale_shift: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Gradient of the map through all its statistics and gates, in one pass."""
    dense = layout.dense_format(x)
    x = x.contiguous(memory_format=dense)
    batch, channels, positions = len(x), x.shape[1], x.shape[2] * x.shape[3]
    acc = spec.accumulator(x.dtype)
    strides = layout.strides(x, dense)
    dx = torch.empty_like(x)
    block_c, block_p, pieces, chunk = layout.walk(batch, channels, positions, strides[0])
    given = (channel, position, space_grads, space_values, space_saved, weight, grads, values, saved)
    rows = [dx if row is None else _row(row, acc) for row in given]  # any valid pointer serves where none is read
    map_backward_kernel[(batch * -(-channels // block_c) * pieces,)](
        x, dx if g is None else g.contiguous(memory_format=dense), *_affine(x, sign, scale_shift), *rows, dx, channels,
        positions, *strides, pieces, chunk, batch * channels, batch * positions, GATE=g is not None,
        SPACE=0 if space_grads is None else space, UNWEIGHTED=0 if grads is None else unweighted,
        WEIGHTED=0 if grads is None or weight is None else weighted, **_given(sign, scale_shift), ACC=triton_type(acc),
        BLOCK_C=block_c, BLOCK_P=block_p,
    )  # fmt: skip
    return dx


def _row(value: Tensor, acc: torch.dtype) -> Tensor:
    """Values per channel or per position in the type and layout that the kernels expect."""
    return value.to(acc).contiguous()


def _affine(x: Tensor, sign: Tensor | None, scale_shift: Tensor | None) -> list[Tensor]:
    """Both in the form that the kernels expect; any valid pointer serves for one that is not given."""
    return [x if row is None else _row(row, spec.accumulator(x.dtype)) for row in (sign, scale_shift)]


def _given(sign: Tensor | None, scale_shift: Tensor | None) -> dict[str, bool]:
    """The kernels' switches SIGN and AFFINE: whether each of the two is given."""
    return {"SIGN": sign is not None, "AFFINE": scale_shift is not None}


def triton_type(dtype: torch.dtype) -> tl.dtype:
    """The Triton type for a torch type in which kernels accumulate."""
    return tl.float64 if dtype == torch.float64 else tl.float32
