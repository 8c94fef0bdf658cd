"""Detection and instance segmentation: Faster R-CNN and Mask R-CNN on the backbones of this package and of timm."""

from sase_attn.detection.authors import import_detector as import_detector
from sase_attn.detection.authors import load_authors_detector as load_authors_detector
from sase_attn.detection.config import DETECTION_RECIPES as DETECTION_RECIPES
from sase_attn.detection.config import DetectionConfig as DetectionConfig
from sase_attn.detection.export import export_onnx as export_onnx
from sase_attn.detection.network import create_backbone as create_backbone
from sase_attn.detection.network import create_detector as create_detector
from sase_attn.detection.network import freeze_backbone as freeze_backbone
from sase_attn.detection.saved import LoadedDetector as LoadedDetector
from sase_attn.detection.saved import load_detector as load_detector
from sase_attn.detection.saved import save_detector as save_detector
from sase_attn.detection.training import DetectionResult as DetectionResult
from sase_attn.detection.training import train_detector as train_detector
