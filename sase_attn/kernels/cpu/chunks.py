"""Pieces of a map that stay in a CPU's cache while several operations run over them.

A piece is a few samples, (b, C, P) with P = H·W, in the layout of the map. Temporaries have the size of a piece, never
that of a map.
"""

import threading
from typing import Any

import torch
from torch import Tensor

from sase_attn.kernels import layout, spec

BYTES = 4 << 20
"""Size of a piece, unless a sample is larger. Smaller pieces need more calls, larger ones do not fit into the cache."""

_kept = threading.local()  # buffers of each thread: allocating memory takes longer than computing in it


class Chunks:
    """The pieces of a map (B, C, H, W), and buffers for them in the type of the computation.

    With `sign` (C,) or `scale_shift` (2, C), the given map is u, and the pieces are those of x = u·sign·scale + shift.
    """

    def __init__(self, x: Tensor, sign: Tensor | None = None, scale_shift: Tensor | None = None) -> None:
        self.type = spec.accumulator(x.dtype)
        self._sign, self._scale_shift = sign, scale_shift
        self._layout = layout.dense_format(x)
        self._x = self.dense(x)
        self.channels = x.shape[1]
        self._step = max(1, BYTES * len(x) // (x.numel() * self.type.itemsize))
        starts = range(0, len(x), self._step)
        self.parts = list(map(slice, starts, [*starts[1:], len(x)]))
        """One slice of the batch per piece."""
        self._as_stored = sign is None and scale_shift is None and x.dtype == self.type
        self._buffers: dict[str, Tensor] = {}

    def dense(self, x: Tensor) -> Tensor:
        """A map as (B, C, P), in the layout of the map of this object."""
        return x.contiguous(memory_format=self._layout).flatten(2)

    def load(self, part: slice) -> Tensor:
        """A piece of the map in the type of the computation: a view if it is stored so, otherwise in a buffer."""
        return self._x[part] if self._as_stored else self.pair(part)[1]

    def pair(self, part: slice) -> tuple[Tensor, Tensor]:
        """The same piece of u·sign and of x."""
        u = self.raw(part)
        if self._scale_shift is None:
            return u, u
        scale, shift = self._scale_shift.unsqueeze(2)
        return u, torch.addcmul(shift, u, scale, out=self.buffer("x", part))

    def raw(self, part: slice) -> Tensor:
        """A piece of u·sign in the type of the computation."""
        u = self.load_other(self._x, part, "u")
        return u if self._sign is None else torch.mul(u, self._sign.unsqueeze(1), out=self.buffer("u", part))

    def load_other(self, dense: Tensor, part: slice, name: str) -> Tensor:
        """A piece of another `dense` map in the type of the computation, in the buffer `name` if that differs."""
        piece = dense[part]
        return piece if piece.dtype == self.type else self.buffer(name, part).copy_(piece)

    def buffer(self, name: str, part: slice) -> Tensor:
        """Memory for a piece; the same name always returns the same memory."""
        if name not in self._buffers:
            first = self._x[: self._step]
            memory = _memory(name, first.numel(), self.type)
            self._buffers[name] = memory[: first.numel()].as_strided(first.shape, first.stride())
        return self._buffers[name][: part.stop - part.start]

    def target(self, y: Tensor, part: slice) -> Tensor:
        """Memory for a piece of `y`: `y` itself, or a buffer if it has another type. Call `store` afterwards."""
        return y[part] if y.dtype == self.type else self.buffer("y", part)

    def store(self, y: Tensor, part: slice, piece: Tensor) -> None:
        """Copy a piece that was computed in `target` to `y`, rounded to its type, unless it is already there."""
        if y.dtype != self.type:
            y[part].copy_(piece)


def _memory(name: str, size: int, dtype: torch.dtype) -> Tensor:
    """Memory for at least `size` elements, kept for the next calls of the thread unless it is larger than `BYTES`."""
    largest = BYTES // dtype.itemsize
    with torch.inference_mode(False):
        if size > largest:
            return torch.empty(size, dtype=dtype)
        buffers: dict[Any, Tensor] = _kept.__dict__
        if (name, dtype) not in buffers:
            buffers[name, dtype] = torch.empty(largest, dtype=dtype)
        return buffers[name, dtype]
