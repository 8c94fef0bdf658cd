"""The networks to compare with: published sizes, places, names that clash with nothing, what is not decayed."""

import re
from pathlib import Path

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2
from torch import nn

from sase_attn.attentions import ATTENTIONS
from sase_attn.models.placement import PLACEMENTS, Preceded

# Exact parameters of ResNet-50 and ResNet-101 (1,000 classes).
PARAMETERS = {
    "se": (28_088_024, 49_326_872),
    "eca": (25_557_112, 44_549_317),
    "cbam": (28_089_624, 49_330_172),
    "bam": (25_915_099, 44_907_227),
    "srm": (25_617_448, 44_679_208),
    "gsop": (28_285_224, 47_277_352),
    "gct_gaussian": (25_557_048, 44_549_193),
    "gct_gated": (25_624_625, 44_695_089),
    "mca_e": (25_557_144, 44_549_391),
    "mca_s": (25_557_272, 44_549_655),
    "ean": (25_560_808, 44_557_288),
    "gc": (28_105_032, 49_363_481),
    "scse": (45_714_360, 82_575_817),
    "ge_theta_minus": (25_557_032, 44_549_160),
}
# Published to these digits only, in millions.
ROUNDED = {"autola": ("29.58", "52.16"), "psa": ("22.56", "38.90"), "spatial_sase": ("18.66", "31.54")}


def count(name: str, **kwargs: object) -> int:
    return sum(p.numel() for p in timm.create_model(name, device="meta", **kwargs).parameters())


@pytest.mark.parametrize("attention", PARAMETERS)
def test_published_sizes(attention):
    assert (count(f"{attention}_resnet50"), count(f"{attention}_resnet101")) == PARAMETERS[attention]


@pytest.mark.parametrize("attention", ROUNDED)
def test_sizes_that_are_published_rounded(attention):
    sizes = [f"{count(f'{attention}_{host}') / 1e6:.2f}" for host in ("resnet50", "resnet101")]
    assert tuple(sizes) == ROUNDED[attention]


def test_variants_of_published_size():
    assert count("se_resnet50", attn_args={"bias": False}) == 28_071_976
    assert count("se_resnet101", attn_args={"bias": False}) == 49_292_328
    assert count("ean_resnet50", attn_args={"groups": 32}) == 25_558_920
    assert count("ean_resnet101", attn_args={"groups": 32}) == 44_553_224
    assert f"{count('autola_resnet50', attn_args={'rd_ratio': 1 / 16}) / 1e6:.2f}" == "29.41"
    assert f"{count('autola_resnet101', attn_args={'rd_ratio': 1 / 16}) / 1e6:.2f}" == "51.85"
    assert f"{(count('glam_resnet50') - count('resnet50')) / 1e6:.1f}" == "12.3"


def test_every_attention_but_recipes_and_variants_has_its_networks():
    ours = timm.list_models(module="compared_resnet")
    assert set(ours) == {f"{name}_{host}" for name in PLACEMENTS for host in ("resnet20", "resnet50", "resnet101")}
    assert ATTENTIONS.keys() - PLACEMENTS.keys() == {
        "sase",
        "att_darts",
        "tiled_se",
        "constant",
        "spatial_sase_literal",
    }


def test_names_clash_with_nothing_in_timm():
    """timm's registry keeps one function a name: the last. Its own files say which names they define."""
    theirs = {
        name
        for path in Path(timm.models.__file__).parent.glob("*.py")
        for name in re.findall(r"@register_model\s+def (\w+)", path.read_text())
    }
    assert "seresnet50" in theirs and len(theirs) > 1000
    assert not theirs & set(timm.list_models(module="compared_resnet"))


@pytest.mark.parametrize("attention", PLACEMENTS)
def test_cifar_networks_learn_everywhere_at_two_sizes(attention):
    torch.manual_seed(0)
    model = timm.create_model(f"{attention}_resnet20", zero_init_last=False)
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    assert model.eval()(torch.randn(1, 3, 24, 40)).shape == (1, 10)
    kind = ATTENTIONS[attention]
    assert any(isinstance(module, kind) for module in model.modules())


def test_places():
    def names(model: str, kind: type[nn.Module]) -> list[str]:
        network = timm.create_model(model, device="meta")
        return [name for name, module in network.named_modules() if isinstance(module, kind)]

    assert names("srm_resnet50", ATTENTIONS["srm"])[:2] == ["layer1.0.se", "layer1.1.se"]
    assert names("bam_resnet50", ATTENTIONS["bam"]) == ["layer1.attn", "layer2.attn", "layer3.attn"]
    assert names("bam_resnet20", ATTENTIONS["bam"]) == ["layer1.attn", "layer2.attn"]
    assert names("gsop_resnet50", ATTENTIONS["gsop"]) == [
        f"layer{i}.{j}.se" for i, j in ((1, 2), (2, 3), (3, 5), (4, 2))
    ]
    assert names("glam_resnet20", ATTENTIONS["glam"]) == ["layer3.attn"]
    assert names("psa_resnet50", ATTENTIONS["psa"])[0] == "layer1.0.conv2"
    every = [f"layer{i}.{j}.conv2" for i, n in enumerate((3, 4, 6, 3), 1) for j in range(n)]
    assert names("spatial_sase_resnet50", ATTENTIONS["spatial_sase"]) == every
    assert names("autola_resnet50", ATTENTIONS["autola"])[0] == "layer1.0.bn2.attn"
    assert len(names("gct_gated_resnet50", Preceded)) == 53
    network = timm.create_model("eca_resnet50", device="meta")
    assert [network.get_submodule(f"layer{i}.0.se").conv.kernel_size[0] for i in range(1, 5)] == [3, 5, 5, 7]


def test_the_fourth_stage_of_gsop_keeps_its_size():
    model = timm.create_model("gsop_resnet50", features_only=True, device="meta")
    maps = model(torch.empty(1, 3, 64, 64, device="meta"))
    assert [m.shape[2] for m in maps] == [32, 16, 8, 4, 4]
    assert model.feature_info.reduction() == [2, 4, 8, 16, 16]


OF_EACH_PLACE = [f"{name}_resnet50" for name in {place: name for name, place in PLACEMENTS.items()}.values()]
OTHERS = ["gsop_resnet20", "sase_resnet18", "sase_resnet50d", "sase_resnet20", "resnet20_cifar", "attached"]


@pytest.mark.parametrize("name", OF_EACH_PLACE + OTHERS)
def test_reductions_are_those_of_the_maps(name):
    """One network of each place of an attention; `output_stride` keeps later stages from shrinking their maps."""
    few = {"layers": (1,) * (3 if "20" in name else 4)}
    if name == "attached":
        few = {"base": "resnet18", "after": "layer*.*.bn2"}
    for output_stride in (8, 16, 32):
        args = few | {"output_stride": output_stride}
        model = timm.create_model(name, features_only=True, device="meta", **args)
        maps = model(torch.empty(1, 3, 64, 64, device="meta"))
        assert [64 // m.shape[3] for m in maps] == model.feature_info.reduction(), output_stride


@pytest.mark.parametrize("attention, undecayed", [("srm", 27), ("gct_gated", 21), ("se", 0)])
def test_no_weight_decay(attention, undecayed):
    model = timm.create_model(f"{attention}_resnet20")
    assert len(model.no_weight_decay()) == undecayed
    optimizer = create_optimizer_v2(model, "sgd", lr=0.1, weight_decay=0.1)
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    parameters = dict(model.named_parameters())
    assert all(id(parameters[name]) not in decayed for name in model.no_weight_decay())
    assert (
        id(parameters["layer1.0.conv1.weight" if attention != "gct_gated" else "layer1.0.conv1.host.weight"]) in decayed
    )


def test_options_are_checked_and_kept():
    with pytest.raises(TypeError):
        timm.create_model("srm_resnet20", attn_args={"rd_ratio": 0.5})
    with pytest.raises(RuntimeError, match="No pretrained weights exist"):
        timm.create_model("srm_resnet20", pretrained=True)
    model = timm.create_model("cbam_resnet20", attn_args={"rd_ratio": 0.5}, in_chans=1, num_classes=3)
    assert model.layer1[0].se.fc1.weight.shape[0] == 8
