"""`replace` in every family of timm with squeeze-and-excitation, also where timm itself takes no other attention."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torchvision
from networks import moved, network

from sase_attn import SASEBlock, attach
from sase_attn.insert import replace

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore:`torch.jit.script`")]


@dataclass(frozen=True)
class Case:
    """A network: how many squeeze-and-excitation modules it has, the first one's name, their class."""

    count: int
    first: str
    cls: str
    args: dict[str, Any] = field(default_factory=dict)
    any_size: bool = True
    checkpointing: bool = True


# One of each family; timm's test models are the code of theirs, smaller.
CASES = {
    "seresnet18": Case(4, "layer1.0.se", "SEModule", {"layers": [1, 1, 1, 1]}),
    "legacy_seresnet18": Case(4, "layer1.0.se_module", "SEModule", {"layers": [1, 1, 1, 1]}, checkpointing=False),
    "efficientnet_b0": Case(16, "blocks.0.0.se", "SqueezeExcite"),
    "mobilenetv3_small_050": Case(9, "blocks.0.0.se", "SqueezeExcite"),
    "regnety_002": Case(13, "s1.b1.se", "SEModule"),
    "rexnet_100": Case(13, "features.3.se", "SEModule"),
    "ghostnet_050": Case(7, "blocks.3.0.se", "SqueezeExcite"),
    "cs3sedarknet_l": Case(21, "stages.0.blocks.0.attn", "SEModule", checkpointing=False),
    "test_coatnet": Case(2, "stages.0.blocks.0.se", "SEModule", {"img_size": 64}, any_size=False),
    "test_maxvit": Case(4, "stages.0.blocks.0.conv.se", "SEModule", {"img_size": 64}, any_size=False),
    "ese_vovnet19b_slim_dw": Case(4, "stages.0.blocks.0.attn", "EffectiveSEModule"),
    "hgnet_tiny": Case(5, "stages.0.blocks.0.aggregation.1", "EseModule"),
    "tresnet_m": Case(3, "body.layer1.0.se", "SEModule", {"layers": [1, 1, 1, 1]}, checkpointing=False),
    "test_nfnet": Case(4, "stages.0.0.attn_last", "SEModule"),
    "test_byobnet": Case(4, "stages.0.0.attn", "SEModule"),
}
TORCHVISION = {
    "mobilenet_v3_small": Case(9, "features.1.block.1", "SqueezeExcitation"),
    "efficientnet_b0": Case(16, "features.1.0.block.1", "SqueezeExcitation"),
    "regnet_y_400mf": Case(16, "trunk_output.block1.block1-0.f.se", "SqueezeExcitation"),
}


def make(name: str) -> tuple[torch.nn.Module, Case]:
    if name.startswith("torchvision."):
        name = name.partition(".")[2]
        torch.manual_seed(0)
        return moved(getattr(torchvision.models, name)(num_classes=5)), TORCHVISION[name]
    return network(name, num_classes=5, **CASES[name].args), CASES[name]


BOTH = [*CASES, *(f"torchvision.{name}" for name in TORCHVISION)]


@pytest.mark.parametrize("name", BOTH)
def test_tiled_with_its_weights(name):
    model, case = make(name)
    x = torch.randn(2, 3, 64, 64)
    before, wanted = model.state_dict(keep_vars=True), model(x)
    report = replace(model, "se", with_="tiled_se", keep_weights=True, attn_args={"tile": (None, None)})
    assert len(report) == case.count and {r.new for r in report} == {"TiledSE"} and all(r.kept for r in report)
    assert report[0].name == case.first and {r.old for r in report} == {case.cls}
    after = model.state_dict(keep_vars=True)
    assert list(after) == list(before) and all(after[key] is before[key] for key in before)
    # A tile over the whole map is squeeze-and-excitation itself, a single row is not.
    assert torch.equal(model(x), wanted)
    assert all(r.kept for r in replace(model, "tiled_se", with_="tiled_se", attn_args={"tile": (1, None)}))
    assert (model(x) - wanted).abs().max() > 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("name", BOTH)
def test_other_attention(name):
    model, case = make(name)
    places = tuple(f"{r.name}." for r in replace(model, "se", with_="sase", dry_run=True))
    others = {key for key in model.state_dict() if not key.startswith(places)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = replace(model, "se", with_="sase")
    assert [r.name for r in report][0] == case.first and len(report) == case.count
    assert sum(isinstance(module, SASEBlock) for module in model.modules()) == case.count
    assert others <= model.state_dict().keys()
    moved(model, by=0.2)  # gates without a bound, one behind the other, grow quickly
    for size in [(64, 64), (96, 80)] if case.any_size else [(64, 64)]:
        assert torch.isfinite(model(torch.randn(1, 3, *size))).all()
    parent = model.get_submodule(case.first.rpartition(".")[0])
    seen = []
    hook = parent.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    wanted = model(torch.randn(2, 3, 64, 64))
    hook.remove()
    assert torch.isfinite(wanted).all()
    if hasattr(model, "set_grad_checkpointing") and case.checkpointing:
        model.set_grad_checkpointing()
    model.train()(torch.randn(2, 3, 64, 64)).sum().backward()
    attention = {key: p for key, p in model.named_parameters() if key.startswith(tuple(f"{r.name}." for r in report))}
    assert attention and all(parameter.grad is not None for parameter in attention.values())
    model.eval()
    scripted = torch.jit.script(parent)
    torch.testing.assert_close(scripted(seen[0].clone()), parent(seen[0].clone()))


@pytest.mark.parametrize("attn", ["sase", "tiled_se"])
def test_whole_networks_script(attn):
    model = network("mobilenetv3_small_050", num_classes=5)
    replace(model, "se", with_=attn)
    x = torch.randn(1, 3, 96, 64)
    torch.testing.assert_close(torch.jit.script(model)(x), model(x))


def test_resnest_has_split_attention_instead():
    """It is a convolution with attention, which no drop-in attention replaces; attach goes behind it."""
    model = network("resnest14d", num_classes=5)
    with pytest.raises(ValueError, match=r"'se', got a ResNet with attention-like modules: 4 SplitAttn"):
        replace(model, "se", with_="sase")
    x = torch.randn(2, 3, 64, 64)
    before = model(x)
    assert len(attach(model, after="layer*.*.bn3", attn="sase", preserve_output=True)) == 4
    assert (model(x) - before).abs().max() <= 1e-4 * before.abs().max()
