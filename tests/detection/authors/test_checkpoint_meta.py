"""What a checkpoint's own configuration says: taken over, or refused by name."""

import pytest

from sase_attn.detection.authors.checkpoint_meta import read_meta

MODEL = """
model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(type='ResNet', depth=50, style='pytorch', frozen_stages=1, norm_cfg=dict(type='BN')),
    neck=dict(type='FPN', num_outs=5),
    rpn_head=dict(anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0],
                                        strides=[4, 8, 16, 32, 64])),
    roi_head=dict(bbox_roi_extractor=dict(roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0)),
                  bbox_head=dict(bbox_coder=dict(target_stds=[0.1, 0.1, 0.2, 0.2]), reg_class_agnostic=False)),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7)),
                  rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)))
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(1333, 800), keep_ratio=True)]
work_dir = osp.join('a', name)
"""
OLD = """
model = dict(type='FasterRCNN', backbone=dict(type='ResNet'))
test_cfg = dict(rpn=dict(nms_pre=500, max_num=500, nms_thr=0.7),
                rcnn=dict(score_thr=0.1, nms=dict(type='nms', iou_thr=0.6), max_per_img=50))
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
test_pipeline = [dict(type='MultiScaleFlipAug', img_scale=(1000, 600), transforms=[dict(type='Resize')])]
"""


def meta_of(text, **meta):
    return read_meta({"meta": {"cfg": text, **meta}}, source="a.pth")


def test_the_authors():
    found = meta_of(MODEL, dataset_meta={"classes": ("cat", "dog")})
    assert found.fields == {
        "anchor_sizes": (32, 64, 128, 256, 512),
        "anchor_ratios": [0.5, 1.0, 2.0],
        "proposals_test": 1000,
        "score_threshold": 0.05,
        "nms_threshold": 0.5,
        "detections_per_image": 100,
        "min_size": (800,),
        "max_size": 1333,
    }
    assert found.classes == ("cat", "dog") and found.has_config


def test_version_2():
    found = read_meta({"meta": {"config": OLD, "CLASSES": ("cell",)}}, source="a.pth")
    assert found.fields == {
        "proposals_test": 500,
        "score_threshold": 0.1,
        "nms_threshold": 0.6,
        "detections_per_image": 50,
        "min_size": (600,),
        "max_size": 1000,
    }
    assert found.classes == ("cell",)


@pytest.mark.parametrize(
    "checkpoint", [{}, {"meta": None}, {"meta": {"cfg": "model = ("}}, {"meta": {"CLASSES": 3}}, 5]
)
def test_one_that_says_nothing(checkpoint):
    found = read_meta(checkpoint, source="a.pth")
    assert found.fields == {} and found.classes is None and not found.has_config


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("style='pytorch'", "style='caffe'", "model.backbone.style='caffe', wanted 'pytorch'"),
        ("bgr_to_rgb=True", "bgr_to_rgb=False", "model.data_preprocessor.bgr_to_rgb=False, wanted True"),
        ("mean=[123.675, 116.28, 103.53]", "mean=[103.53, 116.28, 123.675]", r"preprocessor.mean=\[103.53"),
        ("sampling_ratio=0", "sampling_ratio=2", "roi_layer.sampling_ratio=2, wanted 0"),
        ("type='RoIAlign'", "type='RoIAlign', aligned=False", "roi_layer.aligned=False, wanted True"),
        ("type='MaskRCNN'", "type='CascadeRCNN'", "model.type='CascadeRCNN', wanted 'FasterRCNN' or 'MaskRCNN'"),
        ("[0.1, 0.1, 0.2, 0.2]", "[0.05, 0.05, 0.1, 0.1]", "target_stds=.*wanted"),
        ("scales=[8]", "scales=[4, 8]", r"scales=\[4, 8\], wanted one whole number"),
        ("AnchorGenerator'", "LegacyAnchorGenerator'", "anchor_generator.type='LegacyAnchorGenerator'"),
        ("nms_pre=1000", "nms_pre=2000", "nms_pre=2000, wanted as many as proposals are kept, 1000"),
        ("type='nms', iou_threshold=0.5", "type='soft_nms', iou_threshold=0.5", "rcnn.nms.type='soft_nms'"),
        ("reg_class_agnostic=False", "reg_class_agnostic=True", "reg_class_agnostic=True"),
        ("reg_class_agnostic", "cls_predictor_cfg=dict(type='NormedLinear'), reg_class_agnostic", "NormedLinear"),
        ("type='BN'", "type='GN'", "norm_cfg.type='GN', wanted 'BN' or 'SyncBN'"),
        ("dict(type='Resize', scale=(1333, 800)", "dict(scale=(1, 2)), dict(scale=(3, 4)", "has several sizes"),
    ],
)
def test_what_cannot_be_made_equal_is_named(old, new, said):
    assert old in MODEL
    with pytest.raises(ValueError, match=f"^a.pth is of a detector that cannot be made equal: .*{said}"):
        meta_of(MODEL.replace(old, new))
