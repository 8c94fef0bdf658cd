"""A fused network in the hands of others: features, frozen norms, scripting, tracing, edits."""

import copy
import warnings

import pytest
import timm
import torch
from inputs import draw
from timm.layers import StdConv2d, freeze_batch_norm_2d
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import spectral_norm
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FrozenBatchNorm2d

from sase_attn import attach, fuse, unfuse
from sase_attn.fusion.fused import FusedBlock

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]


def network(name: str = "sase_resnet20", **options: object) -> nn.Module:
    torch.manual_seed(0)
    small = {} if options.get("features_only") else {"num_classes": 5}
    model = timm.create_model(name, layers=(1,) * (3 if "20" in name else 4), **small, **options).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.3, 0.3)
            layer.running_var.uniform_(0.5, 2)
    return model


def norms(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if type(layer) in (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)]


def pruned(conv: nn.Module) -> nn.Module:
    return prune.l1_unstructured(conv, "weight", 0.5)


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert ((found - expected).norm() / expected.norm()).item() <= 2e-6


@torch.no_grad()
@pytest.mark.parametrize("deep", [{}, {"stem_type": "deep", "stem_width": 8}], ids=["stem", "deep stem"])
@pytest.mark.parametrize("indices", [(0, 2), (1,)], ids=["stem given back", "later features"])
def test_stem_under_features_only(deep, indices):
    model = network("sase_resnet18", features_only=True, out_indices=indices, **deep)
    x = draw(1, 3, 32, 32)
    expected, before = model(x), copy.deepcopy(model)
    fuse(model)
    assert not norms(model)
    for found, wanted in zip(model(x), expected, strict=True):
        assert_same(found, wanted)
    unfuse(model)
    assert model.state_dict().keys() == before.state_dict().keys() and torch.equal(model(x)[0], expected[0])


@torch.no_grad()
def test_stem_whose_convolution_somebody_sees_is_left():
    model = network()
    model.conv1.register_forward_hook(lambda *_: None)
    before = model.conv1
    assert fuse(model).conv1 is before and type(model.bn1) is nn.BatchNorm2d


@torch.no_grad()
@pytest.mark.parametrize("convert", [freeze_batch_norm_2d, nn.SyncBatchNorm.convert_sync_batchnorm])
@pytest.mark.parametrize("name", ["sase_resnet20", "resnet18"])
def test_frozen_and_synchronised_norms_are_folded(name, convert):
    model = network(name, **({"norm_layer": nn.BatchNorm2d}))
    if name == "resnet18":
        attach(model, after="layer*.*.bn2", attn="sase")
    model = convert(model).eval()
    x = draw(2, 3, 32, 32)
    expected = model(x)
    host = model.bn1
    fuse(model)
    assert not [layer for layer in norms(model) if len(layer.running_mean) > 1]  # the block has one over one channel
    assert_same(model(x), expected)
    assert unfuse(model).bn1 is host and torch.equal(model(x), expected)


@torch.no_grad()
@pytest.mark.parametrize("name", ["sase_resnet20", "seresnet18", "cbam_resnet20", "resnet18"])
def test_scripted_and_traced_by_fx(name):
    model = network(name)
    x = draw(2, 3, 32, 32)
    expected = model(x)
    fuse(model)
    scripted = torch.jit.script(model)
    assert_same(scripted(x), expected)
    assert_same(scripted(draw(1, 3, 64, 32)), model(draw(1, 3, 64, 32)))
    assert_same(torch.fx.symbolic_trace(model)(x), expected)


@pytest.mark.parametrize("change", [spectral_norm, pruned, lambda conv: StdConv2d(16, 16, 3, padding=1)])
@torch.no_grad()
def test_a_convolution_that_computes_its_weight_keeps_its_norm(change):
    model = network()
    model.layer1[0].bn2.weight.uniform_(0.5, 1.5)
    model.layer1[0].conv2 = change(model.layer1[0].conv2).eval()
    x = draw(2, 3, 16, 16)
    expected = model(x)
    assert_same(fuse(model)(x), expected)
    assert_same(unfuse(model)(x), expected)


@torch.no_grad()
def test_tools_that_set_both_modes():
    model = network()
    x = draw(1, 3, 32, 32)
    expected = create_feature_extractor(model, {"layer2": "y"})(x)["y"]
    extractor = create_feature_extractor(fuse(model), {"layer2": "y"})
    assert_same(extractor(x)["y"], expected)
    assert not model.training and not any(module.training for module in model.modules())
    model(x)


def test_edits_that_unfuse_loses_are_said():
    model = fuse(network())
    copied = copy.deepcopy(model).half().float()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unfuse(copied)
        unfuse(fuse(copied).double())
    block = next(name for name, module in model.named_modules() if isinstance(module, FusedBlock))
    attention = model.get_submodule(block).attention
    with torch.no_grad():
        model.conv1.layers[0].weight.mul_(1.01)
        model.get_submodule(block).layers[0].bias.add_(1)
        attention.mix.weight.fill_(0.25)  # is the module from before, which stays
    with pytest.warns(UserWarning, match=rf"what was changed since fuse\(\) in conv1, {block} is lost"):
        unfuse(model)
    assert model.get_submodule(block).se.mix.weight[0, 0] == 0.25
