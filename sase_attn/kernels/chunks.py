"""Pieces of a map that stay in a CPU's cache while several operations run over them.

A piece is a few samples, (b, C, P) with P = H·W, in the layout of the map. Temporaries are of a piece, never of a map.
"""

import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sase_attn.kernels import selection

BYTES = 4 << 20
"""Of a piece, unless a sample is larger. Smaller pieces cost calls, larger ones leave the cache."""

_kept = threading.local()  # buffers of each thread: new memory costs more than what is computed in it


class Affine(NamedTuple):
    """A map that is kept as another one, u: x = u·sign·scale + shift, (C,) and (2, C); u·sign without the latter."""

    sign: Tensor | None
    scale_shift: Tensor | None

    def rows(self) -> tuple[Tensor, Tensor]:
        """Scale and shift."""
        assert self.scale_shift is not None
        return self.scale_shift[0], self.scale_shift[1]


class Chunks:
    """The pieces of a map (B, C, H, W), or of one kept as `Affine`, and buffers in the type that is computed in."""

    def __init__(self, x: Tensor, affine: Affine | None = None) -> None:
        self.type = selection.accumulator(x.dtype)
        self._affine = affine
        self._layout = selection.dense_format(x)
        self._x = self.dense(x)
        self.channels = x.shape[1]
        self._step = max(1, BYTES * len(x) // (x.numel() * self.type.itemsize))
        self._buffers: dict[str, Tensor] = {}

    def __iter__(self) -> Iterator[slice]:
        """Slices of the batch."""
        for start in range(0, len(self._x), self._step):
            yield slice(start, min(start + self._step, len(self._x)))

    def dense(self, x: Tensor) -> Tensor:
        """A map in the layout of this one, as (B, C, P)."""
        return x.contiguous(memory_format=self._layout).flatten(2)

    def load(self, part: slice) -> Tensor:
        """A piece of the map in the type that is computed in, in a buffer if it is not as it is in memory."""
        return self.pair(part)[1]

    def pair(self, part: slice) -> tuple[Tensor, Tensor]:
        """What `raw` and `load` give."""
        u = self.raw(part)
        if self._affine is None or self._affine.scale_shift is None:
            return u, u
        scale, shift = (row.unsqueeze(1) for row in self._affine.rows())
        return u, torch.addcmul(shift, u, scale, out=self.buffer("x", part))

    def raw(self, part: slice) -> Tensor:
        """The same of u·sign."""
        u = self.load_other(self._x, part, "u")
        sign = None if self._affine is None else self._affine.sign
        return u if sign is None else torch.mul(u, sign.unsqueeze(1), out=self.buffer("u", part))

    def load_other(self, dense: Tensor, part: slice, name: str) -> Tensor:
        """A piece of another `dense` map in the type that is computed in, if it is not of it in the buffer `name`."""
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
