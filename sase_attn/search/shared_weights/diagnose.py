"""`diagnose`: find the first operation, forward or backward, that computes a value which is not finite."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sase_attn.search.supernet.block import blocks_of, reference_mode


def diagnose(model: nn.Module, loss: Callable[[], Tensor]) -> str | None:
    """The cause of a loss or a gradient that is not finite, in words.

    It is the first of these that applies: a parameter that is not finite; the operation whose output is not finite
    though its input is; the operation whose gradient is not finite; the operation of a block with the largest output.
    None if all is finite and the network has no super-network blocks.

    Args:
        model: a network in the state in which something went wrong.
        loss: runs the network and returns the loss.
    """
    operations = dict(_operations(model))
    for name, parameter in model.named_parameters():
        if not _finite([parameter]):
            owner = model.get_submodule(name.rpartition(".")[0])
            return f"a parameter of {next((o for o, op in operations.items() if owner in set(op.modules())), name)}"
    watch = _Watch()
    with reference_mode(model), torch.enable_grad():
        handles = [handle for name, op in operations.items() for handle in watch.hooks(name, op)]
        try:
            value = loss()
            if not watch.outputs:
                torch.autograd.grad(value, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
        finally:
            for handle in handles:
                handle.remove()
    if watch.outputs:
        return watch.outputs[0]
    if watch.gradients:
        # Gradients flow from the end: the first that is not finite is that of the operation that made it.
        return f"the gradient of {watch.gradients[0]}"
    sizes = {name: size for name, size in watch.sizes.items() if " of " in name}
    largest = max(sizes, key=lambda name: sizes[name], default=None)
    return None if largest is None else f"{largest}, whose output of {sizes[largest]:.3g} is the largest"


class _Watch:
    """Hooks that record operations, by name, as they run.

    `outputs` lists those whose output is not finite though their input is, and `gradients` those whose gradient in the
    input is not finite, both in the order of execution. `sizes` holds the largest value of each output.
    """

    def __init__(self) -> None:
        self.outputs: list[str] = []
        self.gradients: list[str] = []
        self.sizes: dict[str, float] = {}

    def hooks(self, name: str, operation: nn.Module) -> Iterator[Any]:
        """Register the hooks of an operation, and yield their handles."""

        def see_input(module: nn.Module, inputs: Any) -> Any:
            # A copy, so that its gradient comes from this operation alone.
            return tuple(self._see_gradient(x.clone(), name) if isinstance(x, Tensor) else x for x in inputs)

        def see_output(module: nn.Module, inputs: Any, output: Any) -> None:
            values = _tensors(output)
            if _finite(_tensors(inputs)) and not _finite(values):
                self.outputs.append(name)
            self.sizes[name] = max((float(v.detach().abs().max()) for v in values if v.numel()), default=0.0)

        yield operation.register_forward_pre_hook(see_input)
        yield operation.register_forward_hook(see_output)

    def _see_gradient(self, x: Tensor, name: str) -> Tensor:
        if x.requires_grad:
            x.register_hook(lambda gradient: None if _finite([gradient]) else self.gradients.append(name))
        return x


def _operations(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The operations of all blocks, named by edge and operation, and all other modules without children, by name."""
    inside: set[nn.Module] = set()
    for name, block in blocks_of(model):
        for edge, mixed in block.edges.items():
            for op, title in zip(mixed, block.shared_architecture.columns[edge], strict=True):
                yield f"{title} of {edge} in {name or 'the block'}", op
                inside |= set(op.modules())
    for name, module in model.named_modules():
        if module not in inside and not any(True for _ in module.children()):
            yield name or type(module).__name__, module


def _tensors(value: Any) -> list[Tensor]:
    return [v for v in (value if isinstance(value, tuple | list) else [value]) if isinstance(v, Tensor)]


def _finite(values: Iterable[Tensor]) -> bool:
    return all(bool(value.detach().isfinite().all()) for value in values)
