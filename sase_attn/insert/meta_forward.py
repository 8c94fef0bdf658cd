"""A forward pass without data: a network on the meta device, to see the order of its modules and their shapes."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


def meta_copy(model: nn.Module) -> nn.Module:
    """A copy in eval mode, with tensors on the meta device; the network is not moved, and its data is not copied."""
    memo: dict[int, Any] = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(model, memo).eval()


def meta_image(model: nn.Module, size: tuple[int, int] | None = None) -> Tensor:
    """One image on the meta device, with the network's input channels and type.

    Its height and width are `size`, or the network's own (timm's `pretrained_cfg`), or 224×224. If the network does not
    declare its input channels, the image has 3 if any convolution has 3 inputs, otherwise as many as the first
    convolution larger than 1×1.
    """
    channels, *own = (getattr(model, "pretrained_cfg", None) or {}).get("input_size", (0, 224, 224))
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    wide = (conv.in_channels for conv in convs if max(conv.kernel_size) > 1)
    guess = 3 if any(conv.in_channels == 3 for conv in convs) else next(wide, 3)
    weight = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), torch.empty(0))
    shape = (1, getattr(model, "in_chans", channels or guess), *(size or own))
    return torch.empty(shape, device="meta", dtype=weight.dtype)


def run_once(model: nn.Module, x: Tensor) -> None:
    """Run `model` on `x` without gradients. Raises ValueError if that fails."""
    try:
        with torch.no_grad():
            model(x)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"a trial pass of {tuple(x.shape)} fails with {type(error).__name__}: {reason}") from error


def run_until(model: nn.Module, x: Tensor, is_done: Callable[[], bool]) -> None:
    """`run_once`, ignoring a failure that occurs after `is_done()` is true, such as in the head of a detector."""
    try:
        run_once(model, x)
    except ValueError:
        if not is_done():
            raise


def map_shapes(
    model: nn.Module, names: Iterable[str], size: tuple[int, int] | None = None
) -> dict[str, tuple[torch.Size, torch.Size]]:
    """Shapes of the first input and of the output of modules, in a pass of one image of `size`, see `meta_image`.

    Modules that the pass does not reach are left out. An input or output that is no tensor has an empty shape.

    Raises:
        ValueError: the pass fails before it has reached all modules.
    """
    copied = meta_copy(model)
    shapes: dict[str, tuple[torch.Size, torch.Size]] = {}

    def watch(name: str) -> None:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            shapes[name] = (getattr(inputs[0], "shape", torch.Size()), getattr(output, "shape", torch.Size()))

        copied.get_submodule(name).register_forward_hook(hook)

    names = list(names)
    for name in names:
        watch(name)
    run_until(copied, meta_image(model, size), lambda: len(shapes) == len(names))
    return shapes


def in_execution_order(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Names of modules in the order in which a forward pass first reaches them, then those that it does not reach.

    Raises:
        ValueError: a trial pass fails before it has reached all modules.
    """
    copied = meta_copy(model)
    names = list(names)
    reached: dict[int, None] = {}

    def hook(module: nn.Module, inputs: Any) -> None:
        reached[id(module)] = None

    modules = {name: copied.get_submodule(name) for name in names}
    for module in modules.values():
        module.register_forward_pre_hook(hook)
    run_until(copied, meta_image(model), lambda: len(reached) == len({id(module) for module in modules.values()}))
    order = list(reached)
    return sorted(
        names, key=lambda name: order.index(id(modules[name])) if id(modules[name]) in reached else len(order)
    )
