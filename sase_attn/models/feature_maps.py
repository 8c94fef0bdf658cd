"""How a timm network gives its feature maps, for networks built around it."""

from collections.abc import Mapping
from typing import Any

import timm

_WRAPPERS = {"FeatureListNet": "list", "FeatureDictNet": "dict", "FeatureHookNet": "hook"}


def feature_cfg_of(architecture: str, model_args: Mapping[str, Any]) -> dict[str, Any]:
    """The `feature_cfg` of timm's builder with which a copy of `architecture` gives the maps that it gives itself.

    timm keeps it in the model's entrypoint, so a copy without memory is built and asked. Networks with a class of their
    own for it (EfficientNet, MobileNetV3) are asked by `forward_intermediates` instead, which gives the same maps.
    """
    probe = timm.create_model(architecture, **{**model_args, "features_only": True, "device": "meta"})
    wrapper = _WRAPPERS.get(type(probe).__name__, "getter")
    cfg: dict[str, Any] = {"out_indices": tuple(probe.feature_info.out_indices), "feature_cls": wrapper}
    if wrapper in ("list", "dict"):
        cfg["flatten_sequential"] = any("." in info["module"] for info in probe.feature_info.info)
    return cfg
