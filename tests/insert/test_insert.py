"""`attach`: what it touches, that it preserves outputs, what it refuses; nothing is half done."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn

from sase_attn import Genotype, SASEBlock, attach
from sase_attn.insert import Attached


def randomised(model):
    """Every weight and running statistic moved, so that no factor hides behind a 0 or a 1."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "running_var" in name:
                tensor.mul_(0.5 + torch.rand_like(tensor))
            elif tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor) * 0.02)
    return model.eval()


def torchvision_resnet():
    return randomised(torchvision.models.resnet18())


@pytest.mark.parametrize("genotype", ["sase", "sase_paper", str(Genotype.random(1)), str(Genotype.random(5))])
def test_preserves_output(genotype):
    model = torchvision_resnet()
    x = torch.randn(2, 3, 64, 96)
    before = model(x)
    report = attach(model, after="layer*.*.bn2", attn=genotype, preserve_output=True)
    assert [insertion.name for insertion in report] == [f"layer{i}.{j}.bn2" for i in range(1, 5) for j in (0, 1)]
    assert [insertion.channels for insertion in report] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert (model(x) - before).abs().max() <= 1e-5 * before.abs().max()
    assert any(isinstance(module, SASEBlock) for module in model.modules())


def test_without_preserving_the_output_changes_and_host_does_not():
    model = torchvision_resnet()
    x, weight = torch.randn(1, 3, 64, 64), model.layer1[0].bn2.weight.clone()
    before = model(x)
    report = attach(model, after="layer1.0.bn2")
    assert report[0].gain is None
    assert torch.equal(model.layer1[0].bn2.host.weight, weight)
    assert (model(x) - before).abs().max() > 1e-3 * before.abs().max()


@pytest.mark.parametrize(
    "base, after, size",
    [
        ("resnet10t", "layer*.*.bn2", 64),
        ("mobilenetv3_small_050", "blocks.*.*.bn3", 64),
        ("efficientnet_b0", "blocks.*.*.bn3", 64),
        ("regnetx_002", "s*.*.conv3.bn", 64),
    ],
)
def test_any_timm_network(base, after, size):
    model = randomised(timm.create_model(base, num_classes=10))
    x = torch.randn(2, 3, size, size)
    before = model(x)
    assert len(attach(model, after=after, preserve_output=True)) > 1
    assert (model(x) - before).abs().max() <= 1e-4 * before.abs().max()


def test_every_parameter_learns_from_the_second_step():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=5)
    attach(model, after="layer*.*.bn2", preserve_output=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    x, y = torch.randn(8, 3, 64, 64), torch.arange(8) % 5
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        optimizer.step()
    assert dead == []


def test_convolution_hosts_and_list_of_patterns():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3, bias=False)).eval()
    x = torch.randn(1, 3, 9, 9)
    before = model(x)
    report = attach(model, after=["0", "2"], preserve_output=True, attn_args=dict(rd_channels=2))
    assert [(r.name, r.host, r.channels, r.gain) for r in report] == [
        ("0", "Conv2d", 8, 1.25),
        ("2", "Conv2d", 6, 1.25),
    ]
    assert torch.allclose(model(x), before, atol=1e-6)
    assert model[0].attn.channel_excite.fc1.weight.shape == (2, 8, 1, 1)


def test_a_module_and_one_inside_it():
    """Both are in the network's way, in whatever order they are named."""
    for after in (["0", "0.bn"], ["0.bn", "0"]):
        model = nn.Sequential(nn.Sequential())
        model[0].add_module("conv", nn.Conv2d(3, 4, 1))
        model[0].add_module("bn", nn.BatchNorm2d(4))
        attach(model, after=after, attn="eca")
        assert isinstance(model[0], Attached) and isinstance(model[0].host.bn, Attached)
        model(torch.randn(1, 3, 5, 5)).sum().backward()
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_patterns_match_dot_by_dot():
    model = torchvision_resnet()
    assert [r.name for r in attach(model, after="layer[12].0.bn?", dry_run=True)] == [
        "layer1.0.bn1",
        "layer1.0.bn2",
        "layer2.0.bn1",
        "layer2.0.bn2",
    ]
    with pytest.raises(ValueError, match=r"unknown module pattern '\*bn2'"):
        attach(model, after="*bn2")


def test_dry_run_touches_nothing():
    model = torchvision_resnet()
    keys = list(model.state_dict())
    weights = copy.deepcopy(model.state_dict())
    assert len(attach(model, after="layer*.*.bn2", preserve_output=True, dry_run=True)) == 8
    assert list(model.state_dict()) == keys
    assert all(torch.equal(weights[key], model.state_dict()[key]) for key in keys)


class Plain(nn.Module):
    def __init__(self, channels, device=None, dtype=None):
        super().__init__()


@pytest.mark.parametrize(
    "error, match, args",
    [
        (ValueError, "unknown module pattern 'layer1.0.bm2'; did you mean layer1.0.bn2", dict(after="layer1.0.bm2")),
        (ValueError, "unknown module pattern 'nothing.here'", dict(after=["layer*.*.bn2", "nothing.here"])),
        (ValueError, "cannot tell the output channels of layer1.0.relu", dict(after="layer1.0.*")),
        (ValueError, "unknown attention 'sese'; did you mean .*sase", dict(after="layer1.0.bn2", attn="sese")),
        (
            TypeError,
            r"Plain cannot start as a constant: it has no zero_gates\(\)",
            dict(after="layer1.0.bn2", attn=Plain, preserve_output=True),
        ),
    ],
)
def test_refuses_and_leaves_the_network_alone(error, match, args):
    model = torchvision_resnet()
    weights = copy.deepcopy(model.state_dict())
    with pytest.raises(error, match=match):
        attach(model, **args)
    assert list(model.state_dict()) == list(weights)
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())


def test_refuses_a_second_time():
    model = torchvision_resnet()
    attach(model, after="layer1.0.bn2")
    with pytest.raises(ValueError, match=r"layer1.0.bn2 already has attention \(SASEBlock\)"):
        attach(model, after="layer*.*.bn2")
    assert not isinstance(model.layer1[1].bn2, Attached)


@pytest.mark.parametrize(
    "host",
    [
        timm.layers.BatchNormAct2d(4, act_layer=nn.SiLU),
        timm.layers.BatchNormAct2d(4, act_layer=nn.ReLU),
        nn.BatchNorm2d(4, affine=False),
    ],
)
def test_preserves_the_output_behind_any_activation(host):
    network, x = nn.Sequential(host).eval(), torch.randn(2, 4, 5, 5)
    before = network(x)
    attach(network, after="0", preserve_output=True)
    assert torch.allclose(network(x), before, atol=1e-6)


def test_device_type_and_mode_follow_the_host():
    model = torchvision_resnet().to(torch.float64)
    attach(model, after="layer1.0.bn2")
    block = model.layer1[0].bn2.attn
    assert block.mix.weight.dtype == torch.float64 and not block.training
    meta = torchvision.models.resnet18().to("meta")
    attach(meta, after="layer1.0.bn2")
    assert meta.layer1[0].bn2.attn.mix.weight.is_meta
