"""`feature_cfg_of`: how timm extracts the feature maps of a network, for models that are built around it."""

from collections.abc import Mapping
from typing import Any

import timm

_WRAPPERS = {"FeatureListNet": "list", "FeatureDictNet": "dict", "FeatureHookNet": "hook"}


def feature_cfg_of(architecture: str, model_args: Mapping[str, Any]) -> dict[str, Any]:
    """The `feature_cfg` for timm's builder with which a copy of `architecture` returns the same maps.

    timm keeps it in the model's entrypoint, so a copy on the meta device is built to read it. Networks with a class of
    their own for features (EfficientNet, MobileNetV3) use `forward_intermediates` instead, which returns the same maps.
    """
    probe = timm.create_model(architecture, **{**model_args, "features_only": True, "device": "meta"})
    wrapper = _WRAPPERS.get(type(probe).__name__, "getter")
    cfg: dict[str, Any] = {"out_indices": tuple(probe.feature_info.out_indices), "feature_cls": wrapper}
    if wrapper in ("list", "dict"):
        cfg["flatten_sequential"] = any("." in info["module"] for info in probe.feature_info.info)
    return cfg
