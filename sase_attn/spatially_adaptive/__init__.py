"""Spatially-adaptive squeeze-and-excitation, arXiv 2112.14804.

This package has the modules. Recognition models are in timm's registry: `timm.create_model("spatial_sase_resnet50")`.
"""

from sase_attn.spatially_adaptive.literal import LiteralSpatiallyAdaptiveSE as LiteralSpatiallyAdaptiveSE
from sase_attn.spatially_adaptive.same_layer import SpatiallyAdaptiveSE as SpatiallyAdaptiveSE
from sase_attn.spatially_adaptive.skip import SkipLayerExcitation as SkipLayerExcitation
from sase_attn.spatially_adaptive.skip import SpatiallyAdaptiveSkip as SpatiallyAdaptiveSkip
from sase_attn.spatially_adaptive.spectral_norm import add_spectral_norm as add_spectral_norm
