"""`SearchBlock`: the super-network of a SASE block, whose edges are weighted sums of operations (arXiv 2411.08333).

`reference_forward` is the definition: it evaluates every operation by itself. `squeezes.py` and `excitations.py` do the
operations' common work once, with the same results; agreement is tested in float64. Both have the semantics of the
release, with two deviations: weights of two mixed statistics start at (0.5, 0.5), unless a search draws them as torch
draws a convolution; and a search may centre the gates, see `centred.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sase_attn.block import SASEBlock
from sase_attn.genotype import EDGES, Genotype
from sase_attn.kernels import dispatch, reader
from sase_attn.ops import create_op, functional
from sase_attn.ops.arguments import positive
from sase_attn.ops.layers import BatchNorm2d, Mixer
from sase_attn.search.supernet.architecture import Architecture, columns_of
from sase_attn.search.supernet.excitations import excite
from sase_attn.search.supernet.squeezes import Edge, MixedSqueezes


class Space(Protocol):
    """What a block needs to know of a search space: each edge's operations in order, and whether to add the input."""

    @property
    def ops(self) -> Mapping[str, Sequence[str]]: ...

    @property
    def residual(self) -> bool: ...


class MixedOp(nn.ModuleList):
    """The operations of an edge in the order of alpha's columns; called with weights (K,), it returns the weighted sum.

    If gates are centred (see `centre`), `shifts` (K,) are added to the outputs of the operations, and are in the state
    dict.
    """

    shifts: Tensor | None

    def __init__(self, ops: Sequence[nn.Module]) -> None:
        super().__init__(ops)
        self.register_buffer("shifts", None)
        self._centred_by: tuple[float, ...] = ()

    def centre(self, shifts: Tensor) -> None:
        """Add shifts from now on."""
        self.shifts, self._centred_by = shifts, tuple(shifts.tolist())

    def reset_parameters(self) -> None:
        """Give the shifts that gates were centred by; operations that are drawn anew call for new ones."""
        if self.shifts is not None:
            self.shifts.copy_(torch.tensor(self._centred_by, dtype=torch.float64))

    def forward(self, x: Tensor, weights: Tensor, chosen: int | None = None) -> Tensor:
        if chosen is not None:
            return self.shifted(self[chosen](x), chosen)
        terms = [weights[column] * self.shifted(op(x), column) for column, op in enumerate(self)]
        return torch.stack(terms).sum(0)

    def shifted(self, y: Tensor, column: int) -> Tensor:
        """The output of an operation with its shift."""
        return y if self.shifts is None else y + self.shifts[column].to(y.dtype)

    def shifted_sum(self, y: Tensor, weights: Tensor) -> Tensor:
        """Σ weight·output with Σ weight·shift."""
        return y if self.shifts is None else y + (weights[: len(self)] * self.shifts).sum().to(y.dtype)


class SearchBlock(nn.Module):
    """A block whose edges are mixtures of all the operations of a space.

    (B, C, H, W) → the same shape and type. All blocks of a network share one `Architecture`; the block that was made
    without one owns a new one, which is then in its state dict.

    Args:
        channels: C.
        space: a `SearchSpace`.
        architecture: the architecture of the network that the block is part of; by default a new one.
        reference: evaluate operations one by one: the definition, slower. Compilers and transforms of `torch.func`
            always do.
        rd_ratio: width of FC excitations relative to C.
        size: reference (H, W) of operations with weights per position (7×7 where None).

    Raises:
        UnknownNameError: the space names an operation that is not registered.
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    def __init__(
        self,
        channels: int,
        space: Space,
        architecture: Architecture | None = None,
        *,
        reference: bool = False,
        rd_ratio: float = 1 / 16,
        size: int | tuple[int, int] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.reference = reference
        self.scale = 1.0
        place: dict[str, Any] = dict(device=device, dtype=dtype)
        self.channels, self.residual = positive("channels", channels), bool(space.residual)
        self._op_args: dict[str, Any] = dict(rd_ratio=rd_ratio, size=size)
        for edge in EDGES:
            ops = [create_op(EDGES[edge], name, channels, **self._op_args, **place) for name in space.ops[edge]]
            self.add_module(edge, MixedOp(ops))
        self.mix = Mixer(**place)
        self.norm = BatchNorm2d(1, **place).requires_grad_(False)  # without affine weights, as the release searches
        if architecture is None:
            self.architecture = architecture = Architecture(space.ops, **place)
        self._shared_architecture = (architecture,)  # in a tuple, so that it is registered in one block only

    @property
    def shared_architecture(self) -> Architecture:
        """The architecture of the whole network."""
        return self._shared_architecture[0]

    def forward(self, x: Tensor) -> Tensor:
        x = functional.check_input(x, self.channels)
        compiled = torch.compiler.is_compiling() or dispatch.under_transform()
        if self.reference or compiled:
            return self.reference_forward(x)
        chosen = self.shared_architecture.chosen
        if chosen is not None:
            ops = {edge: mixed[column] for (edge, mixed), column in zip(self.edges.items(), chosen, strict=True)}
            of_map, of_gated, of_input = (ops[edge] for edge in _SQUEEZES)
            return self.reference_forward(reader.read_together(x, of_map, of_gated, of_input))
        weights = dict(zip(EDGES, self.shared_architecture.weights(), strict=True))

        def edge(name: str) -> Edge:
            return list(self.edges[name]), weights[name]

        squeezes = MixedSqueezes(
            x, edge("channel_squeeze"), edge("spatial_squeeze_gated"), edge("spatial_squeeze_input")
        )
        mask, gate = excite([edge("channel_excite"), edge("channel_gate")], squeezes.channel())
        place = torch.relu(self.norm(self.mix(*squeezes.spatial(gate))))
        (spatial,) = excite([edge("spatial_excite")], place)
        mask, spatial = (
            self.edges[name].shifted_sum(value, weights[name])
            for name, value in (("channel_excite", mask), ("spatial_excite", spatial))
        )
        half = 0.5 * self.scale
        return squeezes.gated(half * mask + float(self.residual) * self.scale, half * spatial)

    def reference_forward(self, x: Tensor) -> Tensor:
        """x·(A_c + A_s)/2 + x of the mixtures (without + x where the space has no residual), operation by operation.

        If gates are centred, the whole is also multiplied by `scale`. The map may be given as a `MapReader`.
        """
        alpha, chosen = self.shared_architecture.weights(), self.shared_architecture.chosen

        def edge(name: str, value: Tensor) -> Tensor:
            row = _ROWS[name]
            mixed: Tensor = self.get_submodule(name)(value, alpha[row], None if chosen is None else chosen[row])
            return mixed

        squeezed = edge("channel_squeeze", x)
        gated = x * edge("channel_gate", squeezed)
        fused = self.mix(edge("spatial_squeeze_gated", gated), edge("spatial_squeeze_input", x))
        spatial = edge("spatial_excite", torch.relu(self.norm(fused)))
        half = 0.5 * self.scale
        channel = half * edge("channel_excite", squeezed) + float(self.residual) * self.scale
        return reader.gated(x, channel, half * spatial)

    @property
    def edges(self) -> dict[str, MixedOp]:
        """The mixtures, by edge."""
        return {name: self.get_submodule(name) for name in EDGES}  # type: ignore[misc]

    def derive(self, genotype: Genotype) -> SASEBlock:
        """The `SASEBlock` of a genotype with the weights of its operations here; it computes what this block does when
        only that genotype is chosen. If gates are centred, its `residual` and `scale` differ from those of a new one.

        Raises:
            ValueError: the genotype is not in the space.
        """
        columns = columns_of(genotype, self.shared_architecture.columns, self.residual)
        weight = self.mix.weight
        block = SASEBlock(self.channels, genotype, **self._op_args, device=weight.device, dtype=weight.dtype)
        state = {key: value for key, value in self.state_dict().items() if key.startswith(("mix.", "norm."))}
        for edge, column in zip(EDGES, columns, strict=True):
            chosen = self.get_submodule(f"{edge}.{column}")
            state |= {f"{edge}.{key}": value for key, value in chosen.state_dict().items()}
            shifts = self.edges[edge].shifts
            block.residual += 0.0 if shifts is None else 0.5 * shifts[column].item()
        block.load_state_dict(state)
        block.scale = self.scale
        return block.train(self.training)


def blocks_of(model: nn.Module) -> list[tuple[str, SearchBlock]]:
    """The super-network blocks of a network and their names."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, SearchBlock)]


@contextmanager
def reference_mode(model: nn.Module) -> Iterator[None]:
    """A context in which operations are called one by one, so that their hooks run."""
    before = [(block, block.reference) for _, block in blocks_of(model)]
    try:
        for block, _ in before:
            block.reference = True
        yield
    finally:
        for block, reference in before:
            block.reference = reference


_SQUEEZES = ("channel_squeeze", "spatial_squeeze_gated", "spatial_squeeze_input")
_ROWS = {edge: row for row, edge in enumerate(EDGES)}
