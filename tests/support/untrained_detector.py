"""An untrained detector with many detections, and its evaluation on two ranks, started in the way of torchrun."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from tiny_detector import tiny_config
from torchvision.models.detection import FasterRCNN, MaskRCNN

from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.data import DetectionLoader, read_coco
from sase_attn.detection.evaluation import evaluate_detector
from sase_attn.detection.network import create_detector
from sase_attn.training.data.order import Shard
from sase_attn.training.distributed import ranks


def config_of(*, masks: bool, **values: Any) -> DetectionConfig:
    """The configuration of a detector with twelve detections per image, whatever their scores."""
    detector = "mask_rcnn" if masks else "faster_rcnn"
    return tiny_config(detector=detector, score_threshold=0.0, detections_per_image=12, **values)


def untrained_detector(*, masks: bool, **values: Any) -> FasterRCNN | MaskRCNN:
    """A detector of two classes, with detections of both, in eval mode."""
    model = create_detector(config_of(masks=masks, **values), 2).eval()
    scores = model.roi_heads.box_predictor.cls_score
    with torch.no_grad():
        scores.weight.mul_(10)
        scores.weight[2] = 0.99 * scores.weight[1]
        scores.bias.zero_()
    return model


def main(folder: str) -> None:
    """Evaluate on the validation images of a folder, as one rank of several."""
    with ranks("cpu") as group:
        data = read_coco(Path(folder) / "val.json", Path(folder) / "val", masks=True, on_broken="refuse")
        loader = DetectionLoader(data, batch_size=1, shard=Shard(0, group.rank, group.world_size), training=False)
        metrics = evaluate_detector(untrained_detector(masks=True), loader.epoch(0), data, group, masks=True)
        print(json.dumps(metrics.to_dict()))


if __name__ == "__main__":
    main(sys.argv[1])
