"""The registered models: exact sizes, what `genotype` means, CIFAR features, `attached`, local round trips."""

import pytest
import timm
import torch
from timm.models import save_for_hf

import sase_attn
from sase_attn import Genotype, SASEBlock

PARAMETERS = {
    "sase_resnet18": 11_780_584,
    "sase_resnet34": 21_962_792,
    "sase_resnet50": 28_102_568,  # the paper's 28.10M
    "sase_resnet50d": 28_121_800,
    "sase_resnet101": 49_358_144,  # the paper's 49.36M
    "sase_resnet20": 275_378,
    "resnet20_cifar": 272_474,  # the release's network without attention
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name):
    model = timm.create_model(name, device="meta")
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


def test_registered_names_are_these():
    ours = {
        name for module in ("sase_resnet", "sase_resnet_cifar", "attached") for name in timm.list_models(module=module)
    }
    assert ours == {*PARAMETERS, "attached"}


def test_sizes_of_the_plain_networks_differ_by_the_blocks():
    for base, widths in {"resnet18": (64, 128, 256, 512), "resnet34": (64, 128, 256, 512)}.items():
        depths = (2, 2, 2, 2) if base == "resnet18" else (3, 4, 6, 3)
        blocks = sum(n * (c * (c // 16) * 2 + 2 * c + 24) for n, c in zip(depths, widths, strict=True))
        plain = sum(p.numel() for p in timm.create_model(base, device="meta").parameters())
        assert PARAMETERS[f"sase_{base}"] == plain + blocks


def test_pretrained_configurations_are_timms_own_weights():
    warm = [name for name in timm.list_pretrained("sase_*") if ".warm_" in name]
    for name in warm:
        cfg = timm.get_pretrained_cfg(name)
        architecture, _, tag = name.partition(".")
        original = timm.get_pretrained_cfg(f"{architecture.removeprefix('sase_')}.{tag.removeprefix('warm_')}")
        assert cfg.hf_hub_id == original.hf_hub_id and cfg.hf_hub_id.startswith("timm/resnet")
        assert cfg.architecture == architecture
    assert len(warm) == 5


def test_genotype_reaches_every_block():
    text = str(Genotype.random(3))
    model = timm.create_model("sase_resnet20", genotype=text)
    blocks = [m for m in model.modules() if isinstance(m, SASEBlock)]
    assert len(blocks) == 9 and all(str(block.genotype) == text for block in blocks)


@pytest.mark.parametrize("name", ["sase_resnet18", "sase_resnet20"])
def test_wrong_genotypes(name):
    with pytest.raises(ValueError, match="did you mean sase"):
        timm.create_model(name, genotype="sasse")
    with pytest.raises(TypeError, match=r"pass str\(genotype\)"):
        timm.create_model(name, genotype=sase_attn.genotypes["sase"])
    with pytest.raises(TypeError):
        timm.create_model(name, no_such_argument=1)


@pytest.mark.parametrize("name", ["sase_resnet20", "resnet20_cifar"])
def test_cifar_features(name):
    model = timm.create_model(name, features_only=True).eval()
    maps = model(torch.randn(1, 3, 32, 40))
    assert model.feature_info.channels() == [16, 16, 32, 64]
    assert model.feature_info.reduction() == [1, 1, 2, 4]
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 32, 40), (16, 32, 40), (32, 16, 20), (64, 8, 10)]


def test_cifar_intermediates_and_pruning_keep_the_head_at_the_end():
    model = timm.create_model("sase_resnet20").eval()
    x = torch.randn(2, 3, 32, 32)
    last, maps = model.forward_intermediates(x)
    assert len(maps) == 4 and torch.equal(last, maps[-1]) and torch.equal(last, model.forward_features(x))
    logits = model(x)
    assert model.prune_intermediate_layers(1, prune_head=False) == [3]
    assert torch.equal(model(x), logits)
    assert model.prune_intermediate_layers([0, 1]) == [0, 1]
    assert not list(model.layer2.parameters()) and list(model.layer1.parameters())


def test_cifar_networks_of_bottlenecks(tmp_path):
    """By a name, which survives a folder."""
    model = timm.create_model("spatial_sase_resnet20", block="bottleneck", layers=[1, 1, 1]).eval()
    assert [type(stage[0].conv2).__name__ for stage in (model.layer1, model.layer2, model.layer3)] == [
        "SpatiallyAdaptiveSE"
    ] * 3
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    again, x = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval(), torch.randn(2, 3, 30, 33)
    assert torch.equal(again(x), model(x))
    with pytest.raises(ValueError, match="unknown block 'bottelneck'; did you mean bottleneck"):
        timm.create_model("resnet20_cifar", block="bottelneck")


def test_cifar_init_is_timms():
    model = timm.create_model("resnet20_cifar")
    assert model.conv1.weight.std().item() == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.15)
    assert all(block.bn2.weight.abs().sum() == 0 for block in model.layer1)
    model = timm.create_model("resnet20_cifar", zero_init_last=False)
    assert all(block.bn2.weight.min() == 1 for block in model.layer1)


@pytest.mark.parametrize(
    "name, args",
    [
        ("sase_resnet20", dict(genotype="sase_paper", num_classes=7)),
        ("attached", dict(base="resnet10t", after=["layer*.0.bn2"], attn="sase_paper", num_classes=5)),
    ],
)
def test_local_directory_round_trip(name, args, tmp_path):
    model = timm.create_model(name, **args).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.01)
    save_for_hf(model, tmp_path, safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = torch.randn(2, 3, 64, 64)
    assert type(again) is type(model) and torch.equal(again(x), model(x))


def test_attached_refuses():
    with pytest.raises(ValueError, match="unknown base model 'resnet5O'; did you mean .*resnet50"):
        timm.create_model("attached", base="resnet5O")
    with pytest.raises(ValueError, match="did you mean .*bn3"):
        timm.create_model("attached", base="resnet26", after="layer*.*.bm3")
    with pytest.raises(TypeError, match="as a string"):
        timm.create_model("attached", base="resnet26", attn=SASEBlock)
