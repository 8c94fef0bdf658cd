"""`create_detector`: losses and boxes, the fields of its configuration, the weights it starts with, what it refuses."""

import pytest
import timm
import torch
from tiny_detector import TINY_BACKBONE, images_and_targets, tiny_config
from torchvision.models.detection import MaskRCNN

from sase_attn.detection import save_detector
from sase_attn.detection.network import create_detector
from sase_attn.errors import UnknownNameError
from sase_attn.weights import write_safetensors


def quiet(line):
    raise AssertionError(f"nothing to say, and said: {line}")


@pytest.mark.parametrize("detector", ["faster_rcnn", "mask_rcnn"])
def test_losses_backward_boxes(detector):
    masks = detector == "mask_rcnn"
    model = create_detector(tiny_config(detector=detector, detections_per_image=5, score_threshold=0.0), 2, echo=quiet)
    assert isinstance(model, MaskRCNN) == masks
    images, targets = images_and_targets(masks=masks)
    losses = model.train()(images, targets)
    assert ("loss_mask" in losses) == masks
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        found = model.eval()(images)
    assert [len(each["boxes"]) for each in found] == [5, 5]
    assert all(set(each["labels"].tolist()) <= {1, 2} for each in found)
    assert not masks or found[0]["masks"].shape == (5, 1, 60, 80)


def test_fields_arrive():
    config = tiny_config(
        detector="mask_rcnn",
        min_size=(48, 64),
        proposals_train=7,
        proposals_test=6,
        anchors_per_image=5,
        anchor_ratios=(1.0, 2.0),
        nms_threshold=0.4,
        mask_head_widths=(8, 4),
    )
    model = create_detector(config, 3)
    assert model.transform.min_size == (48, 64) and model.transform.max_size == 96
    assert model.rpn._pre_nms_top_n == model.rpn._post_nms_top_n == {"training": 7, "testing": 6}
    assert model.rpn.fg_bg_sampler.batch_size_per_image == 5
    assert model.rpn.anchor_generator.sizes == tuple((size,) for size in config.anchor_sizes)
    assert model.rpn.anchor_generator.num_anchors_per_location() == [2] * 5
    heads = model.roi_heads
    assert heads.fg_bg_sampler.batch_size_per_image == 16 and heads.detections_per_img == 8
    assert heads.nms_thresh == 0.4 and heads.score_thresh == 0.05
    assert heads.box_predictor.cls_score.out_features == 4 and heads.box_predictor.bbox_pred.out_features == 16
    assert [layer.out_channels for layer in heads.mask_head.modules() if isinstance(layer, torch.nn.Conv2d)] == [8, 4]
    assert heads.mask_predictor.mask_fcn_logits.out_channels == 4
    assert model.transform.image_mean == list(model.backbone.body.pretrained_cfg["mean"])
    maps = model.backbone(torch.rand(1, 3, 64, 96))
    assert {name: tuple(each.shape[1:]) for name, each in maps.items()} == {
        "0": (8, 16, 24),
        "1": (8, 8, 12),
        "2": (8, 4, 6),
        "3": (8, 2, 3),
        "pool": (8, 1, 2),
    }


def test_a_function_of_the_seed():
    one, again, other = (create_detector(tiny_config(seed=seed), 2).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["backbone.body.conv1.weight"], other["backbone.body.conv1.weight"])
    assert not torch.equal(one["roi_heads.box_head.fc6.weight"], other["roi_heads.box_head.fc6.weight"])


class TestInitFrom:
    def body_equals(self, model, network):
        wanted = network.state_dict()
        body = model.backbone.body.state_dict()
        assert all(torch.equal(value, wanted[key]) for key, value in body.items())
        assert set(wanted) - set(body) == {"fc.weight", "fc.bias"}

    def test_a_trained_network_whatever_its_classes(self, tmp_path):
        network = timm.create_model("sase_resnet18", num_classes=7, **TINY_BACKBONE)
        write_safetensors(network.state_dict(), tmp_path / "model.safetensors", metadata={}, model=network)
        for source in (tmp_path, tmp_path / "model.safetensors"):
            self.body_equals(create_detector(tiny_config(init_from=str(source)), 2, echo=quiet), network)

    def test_a_network_without_attention(self, tmp_path):
        network = timm.create_model("resnet18", num_classes=7, **TINY_BACKBONE).eval()
        torch.save(network.state_dict(), tmp_path / "plain.pth")
        lines: list[str] = []
        model = create_detector(tiny_config(init_from=str(tmp_path / "plain.pth")), 2, echo=lines.append).eval()
        assert len(lines) == 1 and lines[0].startswith("attention: not in ")
        image = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            last = model.backbone.body(image)[-1]
            torch.testing.assert_close(last, network.forward_features(image))

    @pytest.mark.parametrize("gains", [(0.5, 0.5, 0.5, 0.5), (0.5, 0.25, 0.5, 0.75)])
    def test_a_detector(self, tmp_path, gains):
        """Its backbone, with all that its weights do not say: the gains of its attention, and the normalisation."""
        model = create_detector(tiny_config(), 4).eval()
        body = model.backbone.body
        for gain, name in zip(gains, ("layer1", "layer2", "layer3", "layer4"), strict=True):
            body[name][0].se.scale = gain
        model.transform.image_mean = [0.1, 0.2, 0.3]
        save_detector(model, tmp_path / "model.safetensors", tiny_config(), "abcd")
        again = create_detector(tiny_config(seed=1, init_from=str(tmp_path)), 2, echo=quiet).eval()
        assert again.transform.image_mean == [0.1, 0.2, 0.3]
        image = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            assert all(map(torch.equal, again.backbone.body(image), body(image)))
        convolutions = [each.backbone.fpn.inner_blocks[0][0].weight for each in (model, again)]
        assert not torch.equal(*convolutions)

    def test_others_are_refused_by_name(self, tmp_path):
        torch.save(
            timm.create_model("resnet18", channels=[8, 8, 16, 16], zero_init_last=False).state_dict(),
            tmp_path / "deeper.pth",
        )
        config = tiny_config(backbone="resnet18", init_from=str(tmp_path / "deeper.pth"))
        with pytest.raises(ValueError, match=r"does not fit the model: unexpected layer1\.1\.conv1\.weight"):
            create_detector(config, 2)
        with pytest.raises(FileNotFoundError):
            create_detector(tiny_config(init_from=str(tmp_path / "none.pth")), 2)

    def test_normalisation_of_the_weights(self, tmp_path):
        network = timm.create_model("resnet18", num_classes=7, **TINY_BACKBONE)
        config = '{"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}'
        write_safetensors(network.state_dict(), tmp_path / "a.safetensors", metadata={"data_config": config})
        model = create_detector(tiny_config(backbone="resnet18", init_from=str(tmp_path / "a.safetensors")), 2)
        assert model.transform.image_mean == [0.1, 0.2, 0.3] and model.transform.image_std == [0.5, 0.6, 0.7]


@pytest.mark.parametrize(
    "values, message",
    [
        (
            {"backbone": "resnet20_cifar", "backbone_kwargs": {}},
            r"no map at stride 8, 16 and 32; its strides are 1, ",
        ),
        ({"backbone": "gsop_resnet50", "backbone_kwargs": {}}, r"no map at stride 32; its strides are 2, 4, 8, 16, 16"),
        ({"backbone": "vit_tiny_patch16_224", "backbone_kwargs": {"depth": 2}}, "no map at stride 4, 8 and 32"),
        ({"backbone_kwargs": {"out_indices": [1]}}, "backbone_kwargs: out_indices: set by the detector"),
        ({"backbone_kwargs": {"depth": 3}}, "cannot make sase_resnet18: .*depth"),
    ],
)
def test_refused(values, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        create_detector(tiny_config(**values), 2)


def test_a_network_for_one_size_is_refused():
    values = {"depths": [1, 1, 1, 1], "embed_dim": 8, "num_heads": [1, 1, 1, 1]}
    config = tiny_config(backbone="swin_tiny_patch4_window7_224", backbone_kwargs=values)
    with pytest.raises(
        ValueError,
        match=r"for images of any size; Input height \(64\) doesn't match model \(224\); "
        "backbone_kwargs strict_img_size=False may help$",
    ):
        create_detector(config, 2)


def test_maps_with_channels_last():
    values = {"depths": [1, 1, 1, 1], "embed_dim": 8, "num_heads": [1, 1, 1, 1], "strict_img_size": False}
    config = tiny_config(backbone="swin_tiny_patch4_window7_224", backbone_kwargs=values, freeze_stages=1)
    model = create_detector(config, 2)
    assert model.backbone(torch.rand(1, 3, 64, 96))["1"].shape == (1, 8, 8, 12)
    frozen = [name for name, p in model.backbone.body.named_parameters() if not p.requires_grad]
    assert {name.partition(".")[0] for name in frozen} == {"patch_embed", "layers_0"}


@pytest.mark.parametrize("number", [0, -1, 2.0, True])
def test_classes(number):
    with pytest.raises(ValueError, match=f"at least one class to detect, got num_classes={number}"):
        create_detector(tiny_config(), number)


def test_unknown_backbone():
    with pytest.raises(UnknownNameError, match="did you mean sase_resnet18"):
        create_detector(tiny_config(backbone="sase_resnet19"), 2)
