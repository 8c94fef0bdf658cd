"""Untrained detectors of torchvision that find a lot, in milliseconds; and the numbers that two ranks give for one."""

import json
import sys
from pathlib import Path

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign


def tiny_detector(*, masks: bool, seed: int = 0, size: int = 64) -> nn.Module:
    """Of two classes, in eval mode."""
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))
    body.out_channels = 8
    options = {
        "num_classes": 3,
        "min_size": size,
        "max_size": 2 * size,
        "rpn_anchor_generator": AnchorGenerator(((8, 16, 32),), ((0.5, 1.0, 2.0),)),
        "box_roi_pool": MultiScaleRoIAlign(["0"], 5, 2),
        "box_score_thresh": 0.0,
        "box_detections_per_img": 12,
        "rpn_post_nms_top_n_test": 30,
    }
    if masks:
        model = MaskRCNN(
            body,
            mask_roi_pool=MultiScaleRoIAlign(["0"], 7, 2),
            mask_head=MaskRCNNHeads(8, (8,), 1),
            **options,
        )
        model.roi_heads.mask_predictor = MaskRCNNPredictor(8, 8, 3)
    else:
        model = FasterRCNN(body, **options)
    with torch.no_grad():  # masks of some shape
        for parameter in model.parameters():
            parameter.mul_(3)
    return model.eval()


def main(folder: str) -> None:
    """Evaluate on the images of a folder, as one rank of several."""
    from sase_attn.detection.data.loader import DetectionLoader
    from sase_attn.detection.data.read_coco import read_coco
    from sase_attn.detection.evaluation.metrics import evaluate_detector
    from sase_attn.training.data.order import Shard
    from sase_attn.training.distributed import ranks

    with ranks("cpu") as group:
        data = read_coco(Path(folder) / "val.json", Path(folder) / "val", masks=True, on_broken="refuse")
        loader = DetectionLoader(data, batch_size=1, shard=Shard(0, group.rank, group.world_size), training=False)
        model = tiny_detector(masks=True)
        metrics = evaluate_detector(model, loader.epoch(0), data, group, masks=True)
        print(json.dumps(metrics.to_dict()))


if __name__ == "__main__":
    main(sys.argv[1])
