"""`replace` of 3×3 convolutions by attention that takes the place of one, by name, also through `attached`."""

import pytest
import timm
import torch
from networks import moved, network
from timm.models import save_for_hf
from torch import nn

from sase_attn.attentions import ATTENTIONS
from sase_attn.insert import replace

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"layers": [1, 1, 1, 1]}
CONVOLUTIONS = [f"layer{i}.0.conv2" for i in range(1, 5)]


@pytest.mark.parametrize("name", ["psa", "spatial_sase", "spatial_sase_literal"])
def test_every_convolution_of_a_bottleneck(name):
    model = network("resnet50", **SMALL)
    shapes = [y.shape for y in model.forward_intermediates(torch.randn(1, 3, 65, 33), intermediates_only=True)]
    report = replace(model, "conv3x3", with_=name)
    assert [(r.name, r.old, r.channels) for r in report] == [
        (place, "Conv2d", width) for place, width in zip(CONVOLUTIONS, (64, 128, 256, 512), strict=True)
    ]
    assert all(isinstance(model.get_submodule(place), ATTENTIONS[name]) for place in CONVOLUTIONS)
    assert [y.shape for y in model.forward_intermediates(torch.randn(1, 3, 65, 33), intermediates_only=True)] == shapes


def test_the_same_network_as_by_its_name():
    replaced = timm.create_model("resnet50", device="meta")
    assert len(replace(replaced, "conv3x3", with_="spatial_sase")) == 16
    named = timm.create_model("spatial_sase_resnet50", device="meta")
    assert {key: v.shape for key, v in replaced.state_dict().items()} == {
        key: v.shape for key, v in named.state_dict().items()
    }


def test_by_class_and_name():
    model = network("resnet50", **SMALL)
    report = replace(model, nn.Conv2d, only="layer[23].*.conv2", with_="spatial_sase", attn_args={"groups": 2})
    assert [r.name for r in report] == CONVOLUTIONS[1:3] and model.layer2[0].conv2.stride == 2


def test_a_stride_that_attention_does_not_have():
    model = network("resnet50", **SMALL)
    with pytest.raises(ValueError, match="layer2.0.conv2 has stride 2, and eca takes no stride; .*such as psa or"):
        replace(model, "conv3x3", with_="eca")
    assert isinstance(model.layer1[0].conv2, nn.Conv2d)
    assert len(replace(model, "conv3x3", with_="eca", only="layer1.*.conv2")) == 1


@pytest.mark.parametrize("options", [{"dilation": 2}, {"padding": 0}, {"stride": (1, 2)}, {"kernel_size": 5}])
def test_convolutions_of_another_kind_stay(options):
    model = nn.Sequential(nn.Conv2d(8, 8, **{"kernel_size": 3, "padding": 1} | options), nn.Conv2d(8, 4, 3, padding=1))
    with pytest.raises(ValueError, match="nothing to replace: wanted modules of kind 'conv3x3', got a Sequential"):
        replace(model, "conv3x3", with_="spatial_sase")


def test_convolutions_are_no_attention_that_a_network_has():
    with pytest.raises(ValueError, match="attention-like modules: none; kinds are se, .*conv3x3, or a class"):
        replace(network("resnet18", **SMALL), "se", with_="sase")


def test_attached_round_trip(tmp_path):
    args = {"replace": "conv3x3", "only": "layer[34].*.conv2", "attn": "spatial_sase", "attn_args": {"groups": 2}}
    model = moved(timm.create_model("attached", base="resnet26", num_classes=5, **SMALL, **args), by=0.3)
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = torch.randn(2, 3, 64, 64)
    assert isinstance(again.layer3[0].conv2, ATTENTIONS["spatial_sase"]) and torch.equal(again(x), model.eval()(x))
