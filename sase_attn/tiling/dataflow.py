"""The dataflow graph of a forward pass: its operators, and the shortcuts that bypass a module."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_SUMS = {torch.ops.aten.add, torch.ops.aten.add_, torch.ops.aten.sub, torch.ops.aten.sub_}
_COPIES = {torch.ops.aten.alias, torch.ops.aten.clone, torch.ops.aten.detach}


@dataclass(frozen=True)
class Node:
    """The result of an operator: the nodes it was computed from, its shape, and the kind of operator.

    `is_sum` is true for a sum of two results. `same_map` is true for operators of one map that move no position and mix
    no channels, such as activations and batch norms.
    """

    parents: tuple[int, ...]
    shape: torch.Size
    is_sum: bool = False
    same_map: bool = False


@dataclass(frozen=True)
class Shortcut:
    """A map that bypasses a module and is added to a result that derives from its output.

    `identity` says whether the module's input derives from this map; otherwise a projection or another branch computes
    the map.
    """

    shape: torch.Size
    identity: bool


class Flow(TorchDispatchMode):
    """Records, while it is entered, the operators whose inputs derive from those given to `enter`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nodes: list[Node] = []
        self._of_tensor: dict[int, int] = {}
        self._of_storage: dict[int, int] = {}  # for operators that write in place
        self._kept: list[Tensor] = []  # keeps tensors alive, because an address identifies a tensor only while it lives

    def enter(self, x: Tensor) -> None:
        """Make `x` the input of the network."""
        self._add(Node((), x.shape), [x])

    def node(self, x: Tensor) -> int | None:
        """Index of the recorded operator that wrote `x` last; None if there is none."""
        index = max(self._of_tensor.get(id(x), -1), self._of_storage.get(_storage(x), -1))
        return None if index < 0 else index

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        parents = [node for node in map(self.node, tensors) if node is not None]
        out = func(*args, **kwargs)
        results = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if parents and results:
            packet, shape = func.overloadpacket, results[0].shape
            alone = len(parents) == 1 and shape == self.nodes[parents[0]].shape
            keeps = torch.Tag.pointwise in func.tags or packet in _COPIES or "batch_norm" in str(packet)
            is_sum = packet in _SUMS and len(parents) == 2
            self._add(Node(tuple(parents), shape, is_sum, alone and keeps), results, in_place=func._schema.is_mutable)
        return out

    def shortcuts(self, into: int, out_of: int) -> list[Shortcut]:
        """The shortcuts around a module with the input node `into` and the output node `out_of`, in the order of sums.

        There is one for every sum of a result that derives from the output and one that does not, also in outer blocks.
        """
        after, before = self._made_of(out_of), self._makers_of(into)
        waiting: dict[int, Shortcut] = {}
        for node in self.nodes:
            if not node.is_sum or len(set(node.parents) & after) != 1:
                continue
            (other,) = set(node.parents) - after
            origin = self._origin(other)
            waiting[origin] = Shortcut(self.nodes[other].shape, origin in before)
        return list(waiting.values())

    def _add(self, node: Node, results: list[Tensor], in_place: bool = False) -> None:
        index = len(self.nodes)
        self.nodes.append(node)
        self._kept += results
        for x in results:
            self._of_tensor[id(x)] = index
            if in_place:
                self._of_storage[_storage(x)] = index

    def _made_of(self, start: int) -> set[int]:
        """`start` and every node that derives from it. Nodes are in the order of execution."""
        found = {start}
        for index in range(start + 1, len(self.nodes)):
            if found.intersection(self.nodes[index].parents):
                found.add(index)
        return found

    def _makers_of(self, start: int) -> set[int]:
        """`start` and every node that it derives from."""
        found, todo = set(), [start]
        while todo:
            index = todo.pop()
            if index not in found:
                found.add(index)
                todo += self.nodes[index].parents
        return found

    def _origin(self, index: int) -> int:
        """The node from which this one follows by nothing but activations, scales and batch norms."""
        while self.nodes[index].same_map:
            (index,) = self.nodes[index].parents
        return index


def _storage(x: Tensor) -> int:
    return x.untyped_storage()._cdata
