"""Annotated images: read and check COCO JSON, and serve batches in the form that torchvision's detectors expect.

    data = open_detection_data(config, group)
    for images, targets in data.train.epoch(0): ...

A data set is kept in a few arrays, with masks as run lengths. Its `report` counts everything odd in an annotation file.
"""

from sase_attn.detection.data.coco_set import CocoImage as CocoImage
from sase_attn.detection.data.coco_set import CocoSet as CocoSet
from sase_attn.detection.data.loader import DetectionLoader as DetectionLoader
from sase_attn.detection.data.objects import ImageObjects as ImageObjects
from sase_attn.detection.data.open import DetectionData as DetectionData
from sase_attn.detection.data.open import open_detection_data as open_detection_data
from sase_attn.detection.data.read_coco import read_coco as read_coco
from sase_attn.detection.data.report import CocoReport as CocoReport
