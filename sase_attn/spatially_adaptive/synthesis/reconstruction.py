"""How far drawings of real images are from them: by pixels and edges at several scales, or by LPIPS.

FastGAN measures it by LPIPS, whose network has to be downloaded. The default here needs nothing.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from sase_attn.weights import read_checkpoint

RECONSTRUCTIONS = ("pixels", "lpips")
SCALES = 4
Distance = Callable[[Tensor, Tensor], Tensor]


def distance(name: str, weights: str | None, device: torch.device) -> Distance:
    """The distance of a name, for images in -1…1.

    Args:
        name: "pixels" or "lpips".
        weights: a file with torchvision's VGG16 weights, which LPIPS is computed with.
        device: where the images are.

    Raises:
        ImportError: LPIPS is not installed. OSError: the file cannot be read.
        ValueError: LPIPS without a file, or with one that holds other weights.
    """
    return pixel_distance if name == "pixels" else _lpips(weights, device)


def pixel_distance(drawn: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference of pixels and of neighbours' differences, over images halved up to three times."""
    total = drawn.new_zeros(())
    for scale in range(SCALES):
        if scale:
            drawn, wanted = functional.avg_pool2d(drawn, 2), functional.avg_pool2d(wanted, 2)
        total = total + (drawn - wanted).abs().mean()
        for axis in (2, 3):
            total = total + (drawn.diff(dim=axis) - wanted.diff(dim=axis)).abs().mean()
    return total / SCALES


def _lpips(weights: str | None, device: torch.device) -> Distance:
    if weights is None:
        raise ValueError(
            "reconstruction lpips: wanted the file of torchvision's VGG16 weights (lpips_weights), got none; "
            "or take pixels, which needs no file"
        )
    state = read_checkpoint(weights)
    try:
        import lpips
    except ImportError:
        raise ImportError('reconstruction lpips needs lpips: pip install "sase-attn[synthesis]"') from None
    network = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    for part in network.net.children():  # slices of VGG16's features, whose layers keep their numbers
        for number, layer in part.named_children():
            if isinstance(layer, nn.Conv2d):
                _load(layer, state, f"features.{number}", weights)
    network = network.to(device).requires_grad_(False).eval()
    return lambda drawn, wanted: network(drawn, wanted).mean()


def _load(layer: nn.Conv2d, state: Mapping[str, Tensor], name: str, path: str) -> None:
    for key in ("weight", "bias"):
        value, wanted = state.get(f"{name}.{key}"), getattr(layer, key)
        if value is None or value.shape != wanted.shape:
            got = "none" if value is None else f"shape {tuple(value.shape)}"
            raise ValueError(
                f"{path} does not hold torchvision's VGG16: wanted {name}.{key} of shape {tuple(wanted.shape)}, "
                f"got {got}"
            )
        with torch.no_grad():
            wanted.copy_(value)
