"""`Architecture`: one alpha for all super-network blocks of a network, and the operations of its columns."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sase_attn.genotype import EDGES, Genotype


class Architecture(nn.Module):
    """The weights of the operations on the six edges (rows) of every block: softmax(alpha) over each edge's operations.

    Rows are in the order of `EDGES`, columns in that of the space; edges with fewer operations than the largest one
    are padded with columns that have no weight and get no gradient. The state dict holds alpha and, as bytes of JSON,
    the columns' names: alphas of another space are refused.

    Args:
        ops: the names of the operations of each edge.
        std: standard deviation of the normal draw that alpha starts from, 1e-3 in the paper.

    Raises:
        ValueError: on loading alphas of other operations.
    """

    alpha: nn.Parameter
    mask: Tensor

    def __init__(
        self,
        ops: Mapping[str, Sequence[str]],
        *,
        std: float = 1e-3,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.columns = {edge: tuple(ops[edge]) for edge in EDGES}
        self.std = std
        shape = (len(EDGES), max(map(len, self.columns.values())))
        self.register_buffer("mask", torch.empty(shape, dtype=torch.bool, device=device), persistent=False)
        self.alpha = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self._chosen: tuple[int, ...] | None = None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw alpha, and say again which columns are padding."""
        device, dtype = self.alpha.device, self.alpha.dtype
        counts = torch.tensor([len(names) for names in self.columns.values()], device=device)
        self.mask.copy_(torch.arange(self.mask.shape[1], device=device) < counts[:, None])
        self.alpha.copy_(self.std * torch.randn(self.mask.shape, device=device, dtype=dtype) * self.mask)

    def weights(self) -> Tensor:
        """(6, K): the weight of each operation; each row sums to 1, padding is 0."""
        return self.alpha.masked_fill(~self.mask, float("-inf")).softmax(-1)

    @property
    def chosen(self) -> tuple[int, ...] | None:
        """The column of each edge that blocks evaluate alone (see `choose`), or None for the mixture."""
        return self._chosen

    @contextmanager
    def choose(self, columns: Sequence[int] | None) -> Iterator[None]:
        """A context in which every block evaluates only these columns, one for each edge, with weight 1."""
        if columns is not None:
            sizes = [len(names) for names in self.columns.values()]
            if len(columns) != len(sizes) or not all(0 <= c < size for c, size in zip(columns, sizes, strict=True)):
                raise ValueError(f"wanted one column below {sizes} for each edge, got {list(columns)}")
        before, self._chosen = self._chosen, None if columns is None else tuple(columns)
        try:
            yield
        finally:
            self._chosen = before

    @contextmanager
    def only(self, mask: Tensor) -> Iterator[None]:
        """A context in which only operations where a (6, K) mask is true are mixed; their weights sum to 1."""
        left = self.mask & mask
        if not bool(left.any(-1).all()):
            raise ValueError("wanted at least one operation left on each edge")
        before = self.mask
        self.mask = left
        try:
            yield
        finally:
            self.mask = before

    def entropy(self) -> Tensor:
        """(6,): entropy of each edge's weights over its largest value: 1 is uniform, 0 is decided."""
        log = self.weights().clamp_min(torch.finfo(self.alpha.dtype).tiny).log()
        counts = self.mask.sum(-1)
        entropy = -(self.weights() * log).sum(-1)
        return torch.where(counts > 1, entropy / counts.clamp_min(2).log(), torch.zeros_like(entropy))

    def margin(self) -> Tensor:
        """(6,): the difference between the two largest weights of each edge."""
        first, second = self.weights().topk(min(2, self.alpha.shape[1]), dim=-1).values.unbind(-1)
        return first - second

    def argmax(self) -> tuple[int, ...]:
        """The column of the largest weight on each edge."""
        return tuple(self.weights().argmax(-1).tolist())

    def draw(self, generator: torch.Generator, std: float) -> None:
        """Draw alpha anew, from a normal distribution."""
        drawn = std * torch.randn(self.mask.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            self.alpha.copy_(drawn.to(self.alpha) * self.mask)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(list(json.dumps(self.columns).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        saved = {edge: tuple(names) for edge, names in json.loads(bytes(state.tolist())).items()}
        for edge, names in self.columns.items():
            if saved.get(edge) != names:
                raise ValueError(f"these alphas are for {edge} {saved.get(edge)}; this space has {names}")

    def extra_repr(self) -> str:
        return ", ".join(f"{edge}={len(names)}" for edge, names in self.columns.items())


def mean_entropy(entropy: Sequence[float], columns: Mapping[str, Sequence[str]]) -> float:
    """The mean of `Architecture.entropy` over the edges with more than one operation; 0 if there is none.

    Args:
        entropy: the entropy of each edge.
        columns: the operations of each edge, in the same order.
    """
    open_edges = [value for value, names in zip(entropy, columns.values(), strict=True) if len(names) > 1]
    return sum(open_edges) / len(open_edges) if open_edges else 0.0


def columns_of(genotype: Genotype, ops: Mapping[str, Sequence[str]], residual: bool) -> tuple[int, ...]:
    """The column of each edge that a genotype chooses. Raises ValueError if it is not among `ops`."""
    if genotype.residual != residual:
        raise ValueError(f"the space has residual {residual}, the genotype {genotype.residual}")
    for edge in EDGES:
        if getattr(genotype, edge) not in ops[edge]:
            raise ValueError(
                f"{edge} {getattr(genotype, edge)!r} is not in the space, which has {', '.join(ops[edge])}"
            )
    return tuple(list(ops[edge]).index(getattr(genotype, edge)) for edge in EDGES)
