"""`replace`: what it touches, keeps, warns of and refuses; classes of your own; nothing is half done."""

import copy
import warnings

import pytest
import timm
import torch
import torch.nn.functional as F
from inputs import draw
from networks import moved, network
from timm.layers import BatchNormAct2d, EcaModule, GlobalContext, SEModule
from torch import nn

from sase_attn import SASEBlock
from sase_attn.attentions.registry import ATTENTIONS, register_attention
from sase_attn.insert import (
    Replacement,
    SqueezeExcitation,
    attach,
    describe_se,
    init_weights,
    list_kinds,
    pointwise,
    register_se,
    replace,
    squeeze_excite,
)
from sase_attn.tiling.block import TiledSE
from sase_attn.tiling.convert import tile
from sase_attn.weights.genotypes import record_of

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore:`torch.jit.script`")]


class Net(nn.Module):
    """Convolution, attention, convolution."""

    def __init__(self, *attention):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.attention = nn.Sequential(*attention)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.head(self.attention(self.stem(x)))


class Anonymous(nn.Module):
    """Attention that does not say how many channels it has."""

    def forward(self, x):
        return x


class SELayer(nn.Module):
    """What many repositories have: linear layers, in a `Sequential`."""

    def __init__(self, channels, reduction=4):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x):
        b, c = x.shape[:2]
        return x * self.fc(self.avg_pool(x).view(b, c)).view(b, c, 1, 1)


@pytest.fixture
def my_class(monkeypatch):
    """`SELayer`, known for the length of a test."""
    monkeypatch.setattr(squeeze_excite, "_REGISTERED", {})
    register_se(SELayer, lambda m: SqueezeExcitation(m.fc[0].in_features, {"fc": pointwise(m.fc)}))


def state(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def assert_untouched(model, before):
    after = model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[key], before[key]) for key in before)


# ---- what it does


def test_the_report():
    model = Net(SEModule(8, rd_channels=2), nn.ReLU(), SEModule(8, rd_channels=4))
    report = replace(model, "se", with_="eca")
    assert report == [
        Replacement("attention.0", "SEModule", "ECA", 8, False),
        Replacement("attention.2", "SEModule", "ECA", 8, False),
    ]
    assert [type(module).__name__ for module in model.attention] == ["ECA", "ReLU", "ECA"]


def test_dry_run_touches_nothing():
    model = network("test_efficientnet")
    before, modules = state(model), list(model.modules())
    planned = replace(model, "se", with_="tiled_se", dry_run=True)
    assert all(a is b for a, b in zip(model.modules(), modules, strict=True))
    assert_untouched(model, before)
    assert replace(model, "se", with_="tiled_se") == planned and all(r.kept for r in planned)


def test_weights_kept_are_the_same_parameters_in_the_same_modes():
    model = Net(SEModule(8, rd_channels=4, norm_layer=nn.BatchNorm2d)).double()
    se = model.attention[0]
    se.fc1.requires_grad_(False)
    se.train()
    se.bn.eval()  # frozen, as when fine-tuning
    before = dict(model.named_parameters())
    replace(model, "se", with_="tiled_se", keep_weights=True)
    new = model.attention[0]
    assert isinstance(new, TiledSE) and new.training and not new.bn.training
    after = dict(model.named_parameters())
    assert list(after) == list(before) and all(after[name] is before[name] for name in before)
    assert [p.requires_grad for p in new.parameters()] == [False, False, True, True, True, True]


def test_new_attention_goes_where_the_old_one_was():
    model = Net(EcaModule(8)).to(torch.float64).eval()
    replace(model, "eca", with_="srm")
    assert {p.dtype for p in model.attention.parameters()} == {torch.float64} and not model.attention[0].training
    replace(model.to("meta"), "srm", with_="sase")
    assert model.attention[0].mix.weight.is_meta


def test_the_maximum_in_the_squeeze_is_kept():
    model = Net(SEModule(8, rd_channels=4, add_maxpool=True))
    x = torch.randn(2, 3, 9, 9)
    wanted = model(x)
    replace(model, "se", with_="tiled_se", attn_args={"tile": (None, None)})
    assert torch.equal(model(x), wanted)


@pytest.mark.parametrize(
    "with_, args, made",
    [
        ("srm", {}, "SRM"),
        ("sase_paper", {"rd_channels": 2}, "SASEBlock"),
        (SASEBlock, {"genotype": "sase_paper"}, "SASEBlock"),
        (lambda channels, device=None, dtype=None: nn.Conv2d(channels, channels, 1), {}, "Conv2d"),
        (GlobalContext, {"rd_ratio": 0.5}, "GlobalContext"),
    ],
)
def test_anything_that_takes_channels(with_, args, made):
    model = Net(SEModule(8))
    assert replace(model, "se", with_=with_, attn_args=args)[0].new == made
    assert model(torch.randn(1, 3, 9, 9)).shape == (1, 4, 7, 7)


def test_a_shared_module_stays_one_module():
    se = SEModule(8)
    model = Net(se, nn.ReLU(), se, SEModule(8))
    assert [r.name for r in replace(model, "se", with_="eca")] == ["attention.0", "attention.2", "attention.3"]
    assert model.attention[0] is model.attention[2] is not model.attention[3]


def test_only_some_of_them():
    model = network("seresnet18", layers=[2, 1, 1, 1])
    report = replace(model, "se", with_="sase", only=["layer1.*.se", "layer4.0.se"])
    assert [r.name for r in report] == ["layer1.0.se", "layer1.1.se", "layer4.0.se"]
    assert isinstance(model.layer2[0].se, SEModule)


# ---- kinds


@pytest.mark.parametrize(
    "model, kind, count",
    [
        ("ecaresnet26t", "eca", 8),
        ("gcresnet33ts", "gc", 10),
        ("eca_nfnet_l0", "eca", 12),
    ],
)
def test_other_kinds_of_timm(model, kind, count):
    """Their modules do not say how many channels they have; a pass on the meta device does."""
    model = timm.create_model(model, device="meta")
    report = replace(model, kind, with_="se")
    assert len(report) == count and report[0].channels == model.get_submodule(report[0].name).fc1.in_channels
    assert len(replace(model, "se", with_="cbam")) == count  # ours is a kind too
    assert len(replace(model, "cbam", with_="sase")) == count


@pytest.mark.parametrize("name", [*ATTENTIONS])
def test_every_attention_is_a_kind(name):
    assert name in list_kinds()
    model = Net(ATTENTIONS[name](8))
    if name == "att_darts":  # holds others, none of which is found on its own
        assert len(replace(model, name, with_="eca", dry_run=True)) == 1
    report = replace(model, name, with_="eca" if name != "eca" else "srm")
    assert len(report) == 1 and model(torch.randn(2, 3, 9, 9)).shape == (2, 4, 7, 7)


def test_parts_of_other_attention_are_not_found():
    model = Net(ATTENTIONS["autola"](8))
    assert any(describe_se(module) for module in model.modules())
    with pytest.raises(ValueError, match="nothing to replace.*1 AutoLA.*it has kinds autola"):
        replace(model, "se", with_="eca")


def test_attached_attention_can_be_replaced():
    model = Net()
    attach(model, after="stem", attn="se")
    assert replace(model, "se", with_="sase")[0].name == "stem.attn"


def test_what_attach_knew_of_the_old_attention_is_forgotten():
    model = Net()
    attach(model, after="stem", attn=lambda channels: EcaModule(channels), gain=0.5)
    assert model.stem.scale == 2
    replace(model, "eca", with_="se")
    assert model.stem.scale == 1  # the published gain, as for any new attention
    model = Net(SEModule(8))
    attach(model, after="attention.0", attn=EcaModule, gain=0.5)
    assert replace(model, "se", with_="se")[0].name == "attention.0.host"
    assert model.attention[0].scale == 2  # of the attention behind the layer that was replaced
    model = Net()
    attach(model, after="stem", attn="se", preserve_output=True)
    replace(model, "se", with_="gct_gaussian")
    init_weights(model)  # which does not ask the new attention to start as a constant
    model = Net()
    attach(model, after="stem", attn="se", preserve_output=True)
    expected = model(draw(1, 3, 8, 8))
    replace(model, "se", with_="tiled_se", attn_args={"tile": (None, None)})  # keeps weights, and the gain with them
    assert model.stem.constant and torch.equal(model(draw(1, 3, 8, 8)), expected)


def test_a_scale_of_another_meaning_is_not_a_gain(monkeypatch):
    class Scales(SELayer):
        def scale(self, x):
            return x

    class Divided(nn.Conv2d):
        scale = 0.125

        def __init__(self, channels):
            super().__init__(channels, channels, 1)

        def zero_gates(self):
            nn.init.dirac_(self.weight)
            nn.init.zeros_(self.bias)
            return 1.0

    monkeypatch.setattr(squeeze_excite, "_REGISTERED", {})
    register_se(Scales, lambda m: SqueezeExcitation(m.fc[0].in_features, {"fc": pointwise(m.fc)}))
    for change in (tile, lambda model: replace(model, "se", with_="tiled_se")):
        model = Net(Scales(8))
        change(model)
        assert model.attention[0].scale == 1
    model = Net()
    assert attach(model, after="stem", attn=Divided, preserve_output=True)[0].gain == 1
    assert record_of(model) == {}


def test_a_class_and_its_subclasses():
    class Mine(nn.Conv2d):
        pass

    model = Net(Mine(8, 8, 1), nn.Conv2d(8, 8, 1))
    assert [r.name for r in replace(model, Mine, with_="eca")] == ["attention.0"]


def test_features_only_networks():
    model = timm.create_model("seresnet18", layers=[1, 1, 1, 1], features_only=True).eval()
    x = torch.randn(1, 3, 64, 64)
    shapes = [y.shape for y in model(x)]
    assert [r.name for r in replace(model, "se", with_="sase")] == [f"layer{i}.0.se" for i in range(1, 5)]
    assert [y.shape for y in model(x)] == shapes


# ---- classes of your own


def test_a_class_of_your_own(my_class):
    model = moved(Net(SELayer(8)))
    x = torch.randn(2, 3, 20, 20)
    wanted, before = model(x), dict(model.named_parameters())
    (report,) = replace(model, "se", with_="tiled_se", attn_args={"tile": (None, None)})
    assert report.kept and report.old == "SELayer" and report.channels == 8
    after = dict(model.named_parameters())
    assert list(after) == list(before) and all(after[name] is before[name] for name in before)
    assert torch.allclose(model(x), wanted, atol=1e-6)
    replace(model, "tiled_se", with_="tiled_se", attn_args={"tile": (7, None)})
    maps = model.stem(x)
    strips = [maps[:, :, i : i + 7].mean((2, 3)) for i in (0, 7, 14)]
    fc = model.attention[0].fc
    gates = [torch.sigmoid(F.linear(F.relu(F.linear(s, fc[0].weight)), fc[2].weight))[..., None, None] for s in strips]
    expected = torch.cat([maps[:, :, 7 * i : 7 * i + 7] * gate for i, gate in enumerate(gates)], 2)
    assert torch.allclose(model(x), model.head(expected), atol=1e-6)
    torch.testing.assert_close(torch.jit.script(model)(x), model(x))


def test_a_subclass_counts_where_it_inherits_forward():
    class Same(SEModule):
        pass

    class Other(SEModule):
        def forward(self, x):
            return super().forward(x) + x

    assert describe_se(Same(8)) is not None and describe_se(Other(8)) is None and describe_se(nn.ReLU()) is None
    with pytest.warns(UserWarning, match=r"attention.1 \(Other\)"):
        assert len(replace(Net(Same(8), Other(8)), "se", with_="eca")) == 1


def test_registering(my_class):
    with pytest.raises(ValueError, match="SELayer is a known squeeze-and-excitation already"):
        register_se(SELayer, lambda m: None)
    with pytest.raises(ValueError, match="SEModule is a known"):
        register_se(SEModule, lambda m: None)
    with pytest.raises(TypeError, match="wants a class of modules"):
        register_se(SELayer(8), lambda m: None)


# ---- warnings


def test_what_looks_like_it_and_is_unknown_is_named():
    class SEBlock(Anonymous):
        pass

    model = Net(SEModule(8), SEBlock(), SELayer(8))
    model.se = nn.Conv2d(1, 1, 1)
    model.other = nn.ModuleDict({"se": nn.Identity()})
    with pytest.warns(UserWarning) as caught:
        assert len(replace(model, "se", with_="eca")) == 1
    (warning,) = [str(w.message) for w in caught]
    assert "attention.1 (SEBlock), attention.2 (SELayer), se (Conv2d)" in warning and "register_se" in warning
    assert caught[0].filename == __file__


def test_a_pattern_that_matches_other_things_too_is_named():
    model = Net(SEModule(8), nn.ReLU(), nn.Identity())
    with pytest.warns(UserWarning, match=r"not being of kind 'se': attention.1 \(ReLU\)$") as caught:
        assert len(replace(model, "se", with_="eca", only="attention.*")) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replace(network("test_efficientnet"), "se", with_="eca", only="blocks.*.*.se")  # some are nn.Identity


# ---- errors


@pytest.mark.parametrize(
    "error, match, args",
    [
        (ValueError, r"wanted modules of kind 'eca', got a Net with .*: 2 SEModule.*it has kinds se$", dict(old="eca")),
        (ValueError, "wanted modules of kind 'ReLU6', got a Net", dict(old=nn.ReLU6)),
        (ValueError, "unknown kind of attention 'sse'; did you mean", dict(old="sse")),
        (TypeError, "wanted a kind of attention .*or a class of modules, got 3", dict(old=3)),
        (ValueError, "unknown attention 'sasse'; did you mean sase", dict(with_="sasse")),
        (
            TypeError,
            "'sase' cannot take over the weights of attention.0.*keep_weights=False.*tiled_se",
            dict(keep=True),
        ),
        (TypeError, "SRM.* cannot take over", dict(with_=ATTENTIONS["srm"], keep=True)),
        (TypeError, "no_such_option", dict(attn_args={"no_such_option": 1})),
        (ValueError, r"unknown module pattern 'atention.0'; did you mean attention.0", dict(only="atention.0")),
        (ValueError, r"'stem' matches no module of kind 'se', but stem \(Conv2d\)", dict(only=["attention.0", "stem"])),
        (
            ValueError,
            r"stem \(Conv2d\) cannot be replaced: it maps \(1, 3, 224, 224\) to \(1, 8, 222, 222\)",
            dict(old=nn.Conv2d),
        ),
        (
            TypeError,
            r"attention.1 \(BatchNormAct2d\) is no known squeeze-and-ex",
            dict(old=BatchNormAct2d, keep="tiled"),
        ),
    ],
)
def test_refuses_and_leaves_the_network_alone(error, match, args):
    model = Net(SEModule(8), BatchNormAct2d(8), SEModule(8))
    before = state(model)
    args = {"with_": "sase", "old": "se", **args}
    if (keep := args.pop("keep", None)) is not None:
        args |= {"keep_weights": True} | ({"with_": "tiled_se"} if keep == "tiled" else {})
    with pytest.raises(error, match=match):
        replace(model, args.pop("old"), **args)
    assert_untouched(model, before)


def test_a_failure_half_way_leaves_the_network_alone():
    def fails_at_16(channels, **place):
        if channels == 16:
            raise ValueError("not 16")
        return nn.Identity()

    model = nn.Sequential(SEModule(8), nn.Conv2d(8, 16, 1), SEModule(16))
    before = state(model)
    with pytest.raises(ValueError, match="not 16"):
        replace(model, "se", with_=fails_at_16)
    assert_untouched(model, before)


def test_networks_that_cannot_be_changed():
    with pytest.raises(ValueError, match="the model itself is a SEModule"):
        replace(SEModule(8), "se", with_="eca")
    with pytest.raises(TypeError, match="scripted"):
        replace(torch.jit.script(Net(SEModule(8))), "se", with_="eca")
    hooked = Net(SEModule(8))
    hooked.attention[0].register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"attention.0 has forward hooks"):
        replace(hooked, "se", with_="eca")
    hooked = Net(SEModule(8))
    hooked.attention[0].register_full_backward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"attention.0 has backward hooks"):
        replace(hooked, "se", with_="eca")
    with pytest.raises(ValueError, match=r"attention.0 has backward hooks"):
        tile(hooked)


def test_channels_that_cannot_be_told():
    model = Net(Anonymous())
    assert replace(copy.deepcopy(model), Anonymous, with_="eca")[0].channels == 8
    model.stem = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"cannot tell the channels of attention.0 \(Anonymous\).*trial pass.*fails"):
        replace(model, Anonymous, with_="eca")
    model = Net()
    model.unused = Anonymous()
    with pytest.raises(ValueError, match=r"unused \(Anonymous\): no forward pass reaches it"):
        replace(model, Anonymous, with_="eca")


def test_an_attention_that_does_not_keep_the_keys_is_refused():
    class Renames(nn.Sequential):
        @classmethod
        def from_squeeze_excite(cls, se):
            return cls(*se.layers.values())

        def __init__(self, *layers, device=None, dtype=None):
            super().__init__(*layers)

    register_attention("renames", Renames)
    try:
        with pytest.raises(ValueError, match="Renames does not keep the weights of attention.0"):
            replace(Net(SEModule(8)), "se", with_="renames")
    finally:
        del ATTENTIONS["renames"]
