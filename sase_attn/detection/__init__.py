"""Detection and instance segmentation: Faster R-CNN and Mask R-CNN on the backbones of this package and of timm."""

from sase_attn.detection.config import DETECTION_RECIPES as DETECTION_RECIPES
from sase_attn.detection.config import DetectionConfig as DetectionConfig
