"""Where a value that is not finite comes from: the first operation, forward or backward, that makes one."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sase_attn.search.supernet.block import blocks_of, reference_mode


def diagnose(model: nn.Module, loss: Callable[[], Tensor]) -> str | None:
    """The parameter that is not finite, else the operation whose output is not though its input is, else the one whose
    gradient is; and if all are finite, the operation with the largest output. None if the network has no blocks.

    Args:
        model: a network with blocks, in the state in which something went wrong.
        loss: runs it and gives the loss.
    """
    names = dict(_operations(model))
    for name, parameter in model.named_parameters():
        if not _finite([parameter]):
            owner = name.rpartition(".")[0]
            module = model.get_submodule(owner)
            return f"a parameter of {next((text for text, op in names.items() if module in set(op.modules())), name)}"
    sizes: dict[str, float] = {}
    forward: list[str] = []
    backward: list[str] = []

    def after(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            values = _tensors(output)
            if _finite(_tensors(inputs)) and not _finite(values):
                forward.append(name)
            sizes[name] = max((float(v.detach().abs().max()) for v in values if v.numel()), default=0.0)

        return hook

    def before(name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, inputs: Any) -> Any:
            # A copy, so that its gradient is this operation's alone.
            return tuple(watched(x.clone(), name) if isinstance(x, Tensor) else x for x in inputs)

        return hook

    def watched(x: Tensor, name: str) -> Tensor:
        if x.requires_grad:
            x.register_hook(lambda gradient: None if _finite([gradient]) else backward.append(name))
        return x

    with reference_mode(model), torch.enable_grad():
        handles = [op.register_forward_hook(after(name)) for name, op in names.items()]
        handles += [op.register_forward_pre_hook(before(name)) for name, op in names.items()]
        try:
            value = loss()
            if not forward:
                torch.autograd.grad(value, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
        finally:
            for handle in handles:
                handle.remove()
    # Gradients flow from the end: the first that is not finite is that of the operation that made it.
    for found, place in ((forward, ""), (backward, "the gradient of ")):
        if found:
            return place + found[0]
    blocks = {name: size for name, size in sizes.items() if " of " in name}
    largest = max(blocks, key=lambda name: blocks[name], default=None)
    return None if largest is None else f"{largest}, whose output of {blocks[largest]:.3g} is the largest"


def _operations(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The operations of all blocks by what people call them, and all other modules without children by name."""
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
