"""Detections compared with the true objects: COCO's metrics, and the confusion of classes."""

from sase_attn.detection.evaluation.coco_numbers import CocoNumbers as CocoNumbers
from sase_attn.detection.evaluation.confusion import DetectionConfusion as DetectionConfusion
from sase_attn.detection.evaluation.confusion import confusion_of as confusion_of
from sase_attn.detection.evaluation.detections import Detections as Detections
from sase_attn.detection.evaluation.detections import detect as detect
from sase_attn.detection.evaluation.metrics import DetectionMetrics as DetectionMetrics
from sase_attn.detection.evaluation.metrics import detect_all as detect_all
from sase_attn.detection.evaluation.metrics import evaluate_detector as evaluate_detector
from sase_attn.detection.evaluation.metrics import measure as measure
