"""Faster R-CNN and Mask R-CNN on timm's backbones: building them, and freezing parts of the backbone."""

from sase_attn.detection.network.backbone import PyramidBackbone as PyramidBackbone
from sase_attn.detection.network.detector import create_backbone as create_backbone
from sase_attn.detection.network.detector import create_detector as create_detector
from sase_attn.detection.network.freezing import freeze_backbone as freeze_backbone
