"""Weights of mmdetection give, in our detectors, what mmdetection's formulas give: a slow second opinion in float64."""

import copy

import mmdetection_formulas as formulas
import mmdetection_weights
import numpy as np
import pytest
import torch
from networks import moved
from tiny_detector import tiny_config
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from sase_attn.detection.authors.keys import from_mmdetection
from sase_attn.detection.data.masks import mask_tools
from sase_attn.detection.evaluation.detections import detect
from sase_attn.detection.network import create_detector
from sase_attn.detection.network.mmdetection import AlignedPool, BoundedBoxCoder
from sase_attn.detection.network.mmdetection_transform import MmdetectionTransform

SIZES = {"channels": (8, 8, 16, 16), "width": 8, "hidden": 16, "classes": 3, "masks": (8, 8)}
CONFIG = tiny_config(
    detector="mask_rcnn",
    conventions="mmdetection",
    mask_head_widths=(8, 8),
    anchor_sizes=(32, 64, 128, 256, 512),
    proposals_test=25,
    score_threshold=0.2,
    min_size=(90,),
    max_size=150,
    detections_per_image=12,
)
GRAY = torch.randint(16, (3, 61, 107), generator=torch.Generator().manual_seed(1)) * 16  # no ties where it is rounded
IMAGE = GRAY.double() / 255


def detector():
    weights = mmdetection_weights.heads(**SIZES)
    model = create_detector(CONFIG, SIZES["classes"], echo=lambda line: None)
    moved(model.backbone.body)
    model.load_state_dict(model.state_dict() | from_mmdetection(weights, source="made up"))
    return model.double().eval(), {name: value.double().numpy() for name, value in weights.items()}


@pytest.fixture(scope="module")
def both():
    model, weights = detector()
    with torch.no_grad():
        theirs = formulas.detect(
            IMAGE.numpy(), weights, model.backbone.body, shorter=90, longest=150,
            mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], proposals=25, score=0.2, most=12,
        )  # fmt: skip
    return model, theirs


def found(model):
    with torch.no_grad():
        return {name: value.numpy() for name, value in model([IMAGE])[0].items()}


def same(ours, theirs):
    return (
        np.array_equal(ours["labels"] - 1, theirs["labels"])
        and np.abs(ours["scores"] - theirs["scores"]).max() < 1e-9
        and np.abs(ours["boxes"] - theirs["boxes"]).max() < 1e-4  # torchvision's ratios of sizes are float32
        and np.abs(ours["masks"][:, 0] - theirs["masks"]).max() < 1e-4
    )


def test_boxes_scores_classes_and_masks(both):
    model, theirs = both
    assert len(theirs["scores"]) == 12 and len(set(theirs["labels"])) > 1
    assert np.ptp(theirs["scores"]) > 0.1 and np.ptp(theirs["boxes"], axis=0).min() > 10
    assert 0.001 < (theirs["masks"] > 0.5).mean() < 0.9
    assert same(found(model), theirs)


def test_run_lengths_too(both):
    model, theirs = both
    masks = [mask_tools().decode(mask) for mask in detect(model, [IMAGE])[0]["masks"]]
    assert np.array_equal(np.stack(masks), theirs["masks"] > 0.5)


def with_torchvision_anchors(model):
    ours = model.rpn.anchor_generator
    model.rpn.anchor_generator = AnchorGenerator(ours.sizes, ours.aspect_ratios)


def with_torchvision_boxes(model):
    model.roi_heads.box_roi_pool = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)


def with_torchvision_masks(model):
    model.roi_heads.mask_roi_pool = MultiScaleRoIAlign(["0", "1", "2", "3"], 14, 2)


def with_torchvision_images(model):
    ours = model.transform
    model.transform = GeneralizedRCNNTransform(ours.min_size, ours.max_size, ours.image_mean, ours.image_std).eval()


def with_classes_in_their_order(model):
    for name in ("cls_score",):
        layer = getattr(model.roi_heads.box_predictor, name)
        layer.weight.data, layer.bias.data = layer.weight.roll(-1, 0), layer.bias.roll(-1, 0)


@pytest.mark.parametrize(
    "change",
    [
        with_torchvision_anchors,
        with_torchvision_boxes,
        with_torchvision_masks,
        with_torchvision_images,
        with_classes_in_their_order,
    ],
)
def test_each_part_counts(both, change):
    model = copy.deepcopy(both[0])
    change(model)
    ours = found(model)
    assert len(ours["scores"]) != 12 or not same(ours, both[1])


@pytest.mark.parametrize("seed", range(3))
def test_boxes_are_bounded_in_both_directions(seed):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(20, 4, generator=generator).double() * 50
    boxes[:, 2:] += boxes[:, :2] + 1
    differences = torch.randn(20, 8, generator=generator).double() * torch.tensor([1, 1, 30, 30]).repeat(2)
    ours = BoundedBoxCoder((10.0, 10.0, 5.0, 5.0)).decode_single(differences, boxes).reshape(20, 2, 4).numpy()
    scale = np.array([0.1, 0.1, 0.2, 0.2])
    for row, (box, values) in enumerate(zip(boxes.tolist(), differences.reshape(20, 2, 4).numpy(), strict=True)):
        for label in range(2):
            clipped = np.clip(ours[row, label], 0, [100, 90, 100, 90])
            assert np.abs(clipped - formulas.decode(box, values[label] * scale, (90, 100))).max() < 1e-9
    assert not np.allclose(BoxCoder((10.0, 10.0, 5.0, 5.0)).decode_single(differences, boxes).reshape(20, 2, 4), ours)


def test_regions_of_all_levels():
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, 2, 512 // stride, 640 // stride, generator=generator).double() for stride in (4, 8, 16, 32)]
    sides = [(3, 2), (40, 60), (111.9, 111.9), (112.1, 112.1), (300, 200), (500, 600), (224, 224), (0.5, 400)]
    boxes = torch.tensor([[7.3, 5.1, 7.3 + width, 5.1 + height] for height, width in sides]).double()
    ours = AlignedPool(["0", "1", "2", "3"], 7, 0)(dict(zip("0123", maps, strict=True)), [boxes], [(512, 640)])
    theirs = [formulas.pool([each[0].numpy() for each in maps], box, 7) for box in boxes.tolist()]
    assert np.abs(ours.numpy() - np.stack(theirs)).max() < 1e-9
    empty = AlignedPool(["0", "1"], 7, 0)({"0": maps[0], "1": maps[1]}, [boxes[:0]], [(512, 640)])
    assert empty.shape == (0, 2, 7, 7)


def test_regions_are_not_rounded_under_autocast():
    ramp = torch.arange(400.0).expand(1, 1, 8, 400).remainder(3).bfloat16()  # whole numbers below 4 are exact
    boxes = torch.tensor([[1001.3, 2.0, 1021.9, 25.0]])
    pool = AlignedPool(["0"], 7, 0)
    with torch.autocast("cpu", torch.bfloat16):
        found = pool({"0": ramp}, [boxes], [(32, 1600)])
    torch.testing.assert_close(found.float(), pool({"0": ramp.float()}, [boxes], [(32, 1600)]), atol=0.02, rtol=0)


def test_images_of_a_line():
    thin = MmdetectionTransform((64,), 96, [0.0] * 3, [1.0] * 3).eval()([torch.rand(3, 1, 700)])[0]
    assert thin.image_sizes == [(1, 96)]


def test_training_and_whole_numbers():
    model, _ = detector()
    model.float().train()
    targets = [{"boxes": torch.tensor([[5.0, 5, 60, 50]]), "labels": torch.tensor([2])}]
    targets[0]["masks"] = torch.ones(1, 61, 107, dtype=torch.uint8)
    losses = model([IMAGE.float()], targets)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values()) and model.backbone.body.conv1.weight.grad.abs().sum() > 0
    with pytest.raises(TypeError, match="floats from 0 to 1, got torch.uint8"):
        MmdetectionTransform((90,), 150, [0.0] * 3, [1.0] * 3)([torch.zeros(3, 9, 9, dtype=torch.uint8)])
