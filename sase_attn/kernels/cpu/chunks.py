"""Pieces of a map that stay in a CPU's cache while several operations run over them.

A piece is a few samples, (b, C, P) with P = H·W, in the layout of the map. Temporaries are of a piece, never of a map.
"""

import threading
from typing import Any

import torch
from torch import Tensor

from sase_attn.kernels import layout, spec

BYTES = 4 << 20
"""Of a piece, unless a sample is larger. Smaller pieces cost calls, larger ones leave the cache."""

_kept = threading.local()  # buffers of each thread: new memory costs more than what is computed in it


class Chunks:
    """The pieces of a map (B, C, H, W), and buffers in the type that is computed in.

    Of one that is kept as another, u, where rows are given: x = u·sign·scale + shift, (C,) and (2, C).
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
        """Slices of the batch."""
        self._as_stored = sign is None and scale_shift is None and x.dtype == self.type
        self._buffers: dict[str, Tensor] = {}

    def dense(self, x: Tensor) -> Tensor:
        """A map in the layout of this one, as (B, C, P)."""
        return x.contiguous(memory_format=self._layout).flatten(2)

    def load(self, part: slice) -> Tensor:
        """A piece of the map in the type that is computed in, in a buffer if it is not as it is in memory."""
        return self._x[part] if self._as_stored else self.pair(part)[1]

    def pair(self, part: slice) -> tuple[Tensor, Tensor]:
        """A piece of u·sign and of x."""
        u = self.raw(part)
        if self._scale_shift is None:
            return u, u
        scale, shift = self._scale_shift.unsqueeze(2)
        return u, torch.addcmul(shift, u, scale, out=self.buffer("x", part))

    def raw(self, part: slice) -> Tensor:
        """A piece of u·sign in the type that is computed in."""
        u = self.load_other(self._x, part, "u")
        return u if self._sign is None else torch.mul(u, self._sign.unsqueeze(1), out=self.buffer("u", part))

    def load_other(self, dense: Tensor, part: slice, name: str) -> Tensor:
        """A piece of another `dense` map in the type that is computed in; in the buffer `name` if its own differs."""
        piece = dense[part]
        return piece if piece.dtype == self.type else self.buffer(name, part).copy_(piece)

    def buffer(self, name: str, part: slice) -> Tensor:
        """Memory for a piece, always the same for a name."""
        if name not in self._buffers:
            first = self._x[: self._step]
            memory = _memory(name, first.numel(), self.type)
            self._buffers[name] = memory[: first.numel()].as_strided(first.shape, first.stride())
        return self._buffers[name][: part.stop - part.start]

    def target(self, y: Tensor, part: slice) -> Tensor:
        """Where to compute a piece of `y`: there, or in a buffer if it is of another type; then call `store`."""
        return y[part] if y.dtype == self.type else self.buffer("y", part)

    def store(self, y: Tensor, part: slice, piece: Tensor) -> None:
        """Round what was computed in a `target` to `y`."""
        if y.dtype != self.type:
            y[part].copy_(piece)


def _memory(name: str, size: int, dtype: torch.dtype) -> Tensor:
    """At least so many elements; kept for the thread's next calls where they are no more than a piece should have."""
    largest = BYTES // dtype.itemsize
    with torch.inference_mode(False):
        if size > largest:
            return torch.empty(size, dtype=dtype)
        buffers: dict[Any, Tensor] = _kept.__dict__
        if (name, dtype) not in buffers:
            buffers[name, dtype] = torch.empty(largest, dtype=dtype)
        return buffers[name, dtype]
