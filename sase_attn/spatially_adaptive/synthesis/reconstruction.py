"""The reconstruction loss of the discriminator's decoders: by pixels and edges at several scales, or by LPIPS.

FastGAN uses LPIPS, whose network has to be downloaded. The default here needs no download.
"""

import warnings
from collections.abc import Callable, Mapping

import torch
import torchvision
from torch import Tensor
from torch.nn import functional

from sase_attn.weights import read_checkpoint

RECONSTRUCTIONS = ("pixels", "lpips")
SCALES = 4
Distance = Callable[[Tensor, Tensor], Tensor]


def distance(name: str, weights: str | None, device: torch.device) -> Distance:
    """The distance with this name, for images in -1…1.

    Args:
        name: "pixels" or "lpips".
        weights: a file with torchvision's VGG16 weights, for LPIPS.
        device: the device of the images.

    Raises:
        ImportError: LPIPS is not installed. OSError: the file cannot be read.
        ValueError: LPIPS was asked for without a file, or with a file of other weights.
    """
    return pixel_distance if name == "pixels" else _lpips(weights, device)


def pixel_distance(drawn: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference of pixels and of differences between neighbours, for images halved up to three times."""
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
    state = _features(read_checkpoint(weights), weights)
    try:
        import lpips
    except ImportError:
        raise ImportError('reconstruction lpips needs lpips: pip install "sase-attn[synthesis]"') from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torchvision's warnings about how lpips calls it
        network = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    for part in network.net.children():  # slices of VGG16's features, whose layers keep their numbers
        for number, layer in part.named_children():
            layer.load_state_dict({key: state[f"{number}.{key}"] for key in layer.state_dict()})
    network = network.to(device).requires_grad_(False).eval()
    return lambda drawn, wanted: network(drawn, wanted).mean()


def _features(state: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    """The weights of VGG16's features. Raises ValueError if the file lacks one, or has it in another shape."""
    with torch.device("meta"):
        wanted = torchvision.models.vgg16().features.state_dict()
    found = {}
    for name, value in wanted.items():
        got = state.get(f"features.{name}")
        if got is None or got.shape != value.shape:
            words = "none" if got is None else f"shape {tuple(got.shape)}"
            raise ValueError(
                f"{path} does not hold torchvision's VGG16: wanted features.{name} of shape {tuple(value.shape)}, "
                f"got {words}"
            )
        found[name] = got
    return found
