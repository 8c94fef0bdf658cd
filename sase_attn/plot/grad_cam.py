"""`saliency`: Grad-CAM maps of where a network looks. captum is imported when they are computed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sase_attn.errors import unknown_name


def saliency(
    model: nn.Module, images: Tensor, *, layer: str | None = None, target: int | Sequence[int] | Tensor | None = None
) -> Tensor:
    """Grad-CAM (Selvaraju et al., arXiv 1610.02391): the places of each image that speak for a class.

    With A_k the channels of a layer's output and y the logit of the class, the map is ReLU(Σ_k mean(∂y/∂A_k)·A_k), by
    captum's `LayerGradCam`, resized bilinearly to the image and divided by its largest value. So values compare places
    within a map, but not maps with each other; a map without a positive value is zero. The network runs in eval mode,
    and is left as it was.

    To compare networks, give all the same `target`, the true class: two networks that see different classes look at
    different things for that reason alone. The prediction instead shows what led a network to its answer.

    Args:
        model: a classifier, (B, C, H, W) → (B, classes).
        images: (B, C, H, W), normalised as the network expects them; they are moved to its device and type.
        layer: the name of a module that returns (B, channels, h, w) with more than one position. The default is the
            last feature map: the last one of timm's `feature_info`, in other networks the output of the last module
            that returns such a map. An earlier layer has more positions and less meaning.
        target: a class, or one class per image; by default each image's prediction.

    Returns:
        Maps (B, 1, H, W) in [0, 1], float32, on the images' device.

    Raises:
        UnknownNameError: no such layer.
        ValueError: images, target, or the output of the layer or network are not as above, or a map is not finite.
        ImportError: captum is not installed.
    """
    return grad_cam(model, images, layer=layer, target=target)[0]


def grad_cam(
    model: nn.Module, images: Tensor, *, layer: str | None, target: int | Sequence[int] | Tensor | None
) -> tuple[Tensor, Tensor]:
    """`saliency`, and the logits (B, classes) in float32."""
    try:
        from captum.attr import LayerGradCam
    except ImportError:
        raise ImportError('Grad-CAM needs captum: pip install "sase-attn[saliency]"') from None
    if images.ndim != 4 or len(images) == 0 or not images.is_floating_point():
        raise ValueError(f"wanted images (B, C, H, W) of floats, got {tuple(images.shape)} of {images.dtype}")
    if layer is not None:
        names = [name for name, _ in model.named_modules() if name]
        if layer not in names:
            raise unknown_name("layer", layer, names)
    with _evaluating(model), torch.inference_mode(False), torch.enable_grad():
        weight = next(model.parameters(), images)
        inputs = images.to(weight.device, weight.dtype).clone().detach()  # cloned: the caller may be in inference mode
        logits, shapes = _look(model, inputs)
        name = _last_map(model, shapes) if layer is None else layer
        _check_map(name, shapes.get(name), images)
        attribution = LayerGradCam(model, model.get_submodule(name))
        maps = attribution.attribute(inputs, _classes(target, logits), relu_attributions=True).detach()
    maps = interpolate(maps.to(images.device, torch.float32), images.shape[-2:], mode="bilinear")
    largest = maps.amax((1, 2, 3), keepdim=True)
    if not largest.isfinite().all():
        raise ValueError(f"the map of {name} is not finite")
    return torch.where(largest > 0, maps / largest, 0.0), logits.to(images.device, torch.float32)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Within the context the network is in eval mode; afterwards each module has its own mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _look(model: nn.Module, inputs: Tensor) -> tuple[Tensor, dict[str, tuple[int, ...]]]:
    """The logits, and the shape of each module's output in the order of their ends; () if it is no tensor."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, output: object) -> None:
        shapes.pop(name, None)
        shapes[name] = tuple(output.shape) if isinstance(output, Tensor) else ()

    hooks = [
        module.register_forward_hook(lambda _module, _args, output, name=name: note(name, output))
        for name, module in model.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            logits = model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(inputs):
        given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"wanted a classifier, (B, C, H, W) → (B, classes); {type(model).__name__} gave {given}")
    return logits, shapes


def _last_map(model: nn.Module, shapes: dict[str, tuple[int, ...]]) -> str:
    """The name of the default layer."""
    info = getattr(model, "feature_info", None)
    if isinstance(info, list) and info and info[-1].get("module") in shapes:
        name, channels = str(info[-1]["module"]), info[-1].get("num_chs")
        if len(shapes[name]) == 4 and channels not in (None, shapes[name][1]):
            raise ValueError(f"{name} gives {shapes[name]} and not (B, {channels}, h, w); name a layer that does")
        return name
    maps = [name for name, shape in shapes.items() if len(shape) == 4 and shape[2] * shape[3] > 1]
    if not maps:
        raise ValueError(f"{type(model).__name__} has no layer with a feature map of more than one position")
    return maps[-1]


def _check_map(name: str, shape: tuple[int, ...] | None, images: Tensor) -> None:
    if shape is None:
        raise ValueError(f"{name} is not called when the network runs")
    if len(shape) != 4:
        raise ValueError(f"{name} gives {shape or 'no tensor'}, and Grad-CAM needs a feature map (B, C, h, w)")
    if shape[2] * shape[3] == 1:
        height, width = images.shape[-2:]
        raise ValueError(f"{name} gives 1×1 positions for images of {height}×{width}; name an earlier layer")


def _classes(target: int | Sequence[int] | Tensor | None, logits: Tensor) -> Tensor:
    """The class of each image."""
    if target is None:
        return logits.argmax(1)
    count, classes = logits.shape
    wanted = torch.as_tensor(target, device=logits.device)
    if wanted.is_floating_point() or wanted.dtype == torch.bool or wanted.shape not in ((), (count,)):
        raise ValueError(f"wanted a class as target, or {count} of them, one an image, got {target!r}")
    if bool(((wanted < 0) | (wanted >= classes)).any()):
        raise ValueError(f"wanted targets from 0 to {classes - 1}, got {target!r}")
    return wanted.expand(count).long()
