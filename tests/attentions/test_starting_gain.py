"""What attentions start as, and that it can be divided out: everywhere, and without a trace in the state dict."""

import copy

import pytest
import timm
import torch
from inputs import draw
from tolerances import assert_close
from torch import Tensor, nn

from sase_attn import attach, fuse, replace
from sase_attn.attentions import ATTENTIONS, Attention, create_attention, measure_gain, set_gain, starting_gain
from sase_attn.attentions.starting_gain import GAINS, VARYING, WITHOUT
from sase_attn.block import SASEBlock
from sase_attn.genotype import Genotype
from sase_attn.weights import warm_start

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = [name for name, cls in ATTENTIONS.items() if cls.__name__ not in WITHOUT] + ["att_darts"]


class Rectified(nn.Module):
    """An attention that sees its map rectified; its output there, projected on it, is its gain for such maps."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        r = x.relu()
        y = self.attention(r)
        return x * ((y * r).sum() / (r * r).sum())


@pytest.mark.parametrize("name", NAMES)
def test_table_is_what_is_measured(name):
    def build(channels):
        return create_attention(name, channels)

    expected = starting_gain(build(64))
    for channels in (64, 192):
        assert measure_gain(build, channels) == pytest.approx(expected, rel=0.05 if name != "mca_s" else 0.08)
    if ATTENTIONS[name].__name__ not in VARYING:
        assert measure_gain(lambda channels: Rectified(build(channels))) == pytest.approx(expected, rel=0.05)


def test_every_attention_has_a_gain_or_a_reason():
    for name, cls in ATTENTIONS.items():
        if cls.__name__ in WITHOUT and name != "att_darts":
            with pytest.raises(ValueError, match=f"{cls.__name__} has no starting gain, because"):
                starting_gain(create_attention(name, 16))
        else:
            assert starting_gain(create_attention(name, 16)) > 0
    by_argument = {"GCTGaussian", "SASEBlock", "Constant"}
    assert set(GAINS) | set(WITHOUT) | by_argument == {cls.__name__ for cls in ATTENTIONS.values()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True])
def test_unit_gain_is_the_published_result_times_a_constant(name, training):
    published = create_attention(name, 16, dtype=torch.float64).train(training)
    unit = set_gain(copy.deepcopy(published), "unit")
    x = draw(4, 16, 6, 5, dtype=torch.float64)
    assert_close(unit(x), published(x) / starting_gain(published))
    assert unit.state_dict().keys() == published.state_dict().keys()
    assert ("scale" in repr(unit)) == (starting_gain(published) != 1)


@pytest.mark.parametrize("genotype", ["sase", "sase_paper", *(str(Genotype.random(seed)) for seed in range(4))])
def test_gain_of_a_block_is_exact(genotype):
    block = SASEBlock(32, genotype)
    x = draw(4, 32, 7, 7)
    before = copy.deepcopy(block.state_dict())
    gain = starting_gain(block)
    assert gain in (0.5, 0.75, 1.0, 1.25, 1.5) and all(torch.equal(block.state_dict()[k], v) for k, v in before.items())
    assert_close(block(x), gain * x)
    assert_close(set_gain(block, "unit")(x), x)
    assert_close(block.tail(x, torch.zeros_like(x), relu=False), x)


def test_constants():
    x = draw(2, 8, 4, 4)
    assert_close(create_attention("constant", 8, value=1.5)(x), 1.5 * x)
    learned = create_attention("constant", 8, value=0.5, learned=True)
    assert starting_gain(learned) == 0.5 and [p.numel() for p in learned.parameters()] == [1]
    learned(x).sum().backward()
    assert_close(learned.factor.grad, x.sum()[None])
    assert learned.no_weight_decay() == {"factor"} and learned.zero_gates() == 0.5
    with pytest.raises(ValueError, match="value must be above 0, got -1"):
        create_attention("constant", 8, value=-1)


def test_gain_by_name_in_networks():
    for name, arguments in (
        ("sase_resnet20", {}),
        ("se_resnet20", {}),
        ("attached", {"base": "resnet20_cifar", "after": "layer*.*.bn2", "attn": "se"}),
        ("attached", {"base": "seresnet18", "replace": "se", "attn": "sase"}),
    ):
        model = timm.create_model(name, gain="unit", **arguments)
        scales = {m.scale for m in model.modules() if isinstance(m, SASEBlock | Attention)}
        assert scales == {0.8 if "sase" in (name[:4], arguments.get("attn")) else 2.0}
        assert model._model_args["gain"] == "unit"
    report = timm.create_model("seresnet18")
    replace(report, "se", with_="se", keep_weights=False, gain="unit")
    assert all(m.scale == 2.0 for m in report.modules() if isinstance(m, Attention))


class Halved(nn.Module):
    """A user's: no base class, no option."""

    def __init__(self, channels: int, device: object = None, dtype: object = None) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x / 2


def test_a_module_of_your_own():
    gain = measure_gain(Halved)
    assert gain == pytest.approx(0.5)
    host = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    plain, keys = copy.deepcopy(host), ["1.attn", "1.host.weight"]
    attach(host, after="1", attn=Halved, gain=gain)
    x = draw(2, 3, 5, 5)
    assert_close(host(x), plain(x))
    assert keys[1] in host.state_dict() and not any(key.startswith(keys[0]) for key in host.state_dict())
    with pytest.raises(TypeError, match="Halved cannot start with another gain: derive it from"):
        set_gain(Halved(4), 0.5)
    with pytest.raises(ValueError, match="gain that Halved starts with is not known; pass gain=measure_gain"):
        attach(plain, after="1", attn=Halved, gain="unit")


@pytest.mark.parametrize("gain", ["units", 0, float("nan"), True, None])
def test_no_such_gain(gain):
    with pytest.raises(ValueError, match="gain: wanted 'published', 'unit' or a number other than 0, got"):
        create_attention("se", 8, gain=gain)


def test_gains_that_cannot_be_measured():
    with pytest.raises(ValueError, match=r"wanted maps of shape \(16, 64, 14, 14\)"):
        measure_gain(lambda channels: nn.Conv2d(channels, 3, 1))
    with pytest.raises(ValueError, match="wanted an attention that starts with a gain, got 0"):
        measure_gain(lambda channels: nn.Threshold(100.0, 0.0))


@pytest.mark.parametrize(
    ("attention", "training"),
    [*((name, False) for name in ("se", "eca", "cbam", "sase")), ("se", True), ("sase", True)],
)
def test_fused_networks_keep_the_gain(attention, training):
    model = timm.create_model(
        "attached", base="resnet20_cifar", after="layer*.*.bn2", attn=attention, gain="unit", zero_init_last=False
    ).train(training)
    x = draw(2, 3, 16, 16)
    plain = copy.deepcopy(model)
    assert_close(fuse(model, training=training)(x), plain(x), tolerance=1e-4)


def test_a_users_gain_is_fused():
    model = timm.create_model("resnet20_cifar", zero_init_last=False).eval()
    x = draw(2, 3, 16, 16)
    expected = model(x)
    attach(model, after="layer*.*.bn2", attn=Halved, gain=0.5)
    assert_close(fuse(model)(x), expected, tolerance=1e-4)


@pytest.mark.parametrize("name", ["se", "gc", "srm", "tiled_se"])
def test_scripted_and_exported(name):
    unit = create_attention(name, 16, gain="unit").eval()
    x = draw(2, 16, 6, 6)
    assert_close(torch.jit.script(unit)(x), unit(x))
    assert_close(torch.export.export(unit, (x,)).module()(x), unit(x))


@pytest.mark.parametrize("attention", ["se", "sase"])
@pytest.mark.parametrize("weight", [0.0, 1.0])
@pytest.mark.parametrize("way", ["unit", "preserved", "warm"])
def test_a_step_behind_unit_gain_is_the_plain_networks(attention, weight, way):
    """Also behind a norm whose weight is zero, where nothing can be divided out of the norm."""

    def network():
        torch.manual_seed(0)
        model = timm.create_model("resnet20_cifar", layers=[1, 1, 1], num_classes=5).double()
        for name, module in model.named_modules():
            if name.endswith("bn2"):
                nn.init.constant_(module.weight, weight)
        return model

    def stepped(model):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        loss = nn.functional.cross_entropy(model(draw(6, 3, 16, 16, dtype=torch.float64)), torch.arange(6) % 5)
        loss.backward()
        optimizer.step()
        return {name.replace(".host.", "."): value for name, value in model.state_dict().items()}

    model = network()
    if way == "warm":
        attach(model, after="layer*.*.bn2", attn=attention)
        model.load_state_dict(warm_start(network().state_dict(), model))
    else:
        asked = {"gain": "unit"} if way == "unit" else {}
        attach(model, after="layer*.*.bn2", attn=attention, preserve_output=True, **asked)
    after, expected = stepped(model), stepped(network())
    for name, value in expected.items():
        assert_close(after[name], value, tolerance=1e-12)


def test_a_class_of_your_own_without_channels_can_be_shown():
    class Own(Attention):
        def forward(self, x):
            return x

    assert repr(Own()) == "Own()"


@pytest.mark.parametrize("gains", [("unit", "published"), ("published", "unit")])
def test_a_state_dict_of_another_gain_is_refused_also_from_a_file(tmp_path, gains):
    saved, other = (timm.create_model("sase_resnet20", gain=gain) for gain in gains)
    torch.save(saved.state_dict(), tmp_path / "weights.pt")
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    wanted, got = ("1.25", "1") if gains[0] == "unit" else ("1", "1.25")
    with pytest.raises(RuntimeError, match=f"got weights of {wanted}; make the network with gain={wanted}"):
        other.load_state_dict(weights)
    with pytest.raises(RuntimeError, match=f"wanted weights of starting gain {got} divided out"):
        other.load_state_dict(weights, strict=False)
    timm.create_model("sase_resnet20", gain=gains[0]).load_state_dict(weights)
    other.load_state_dict(dict(weights))  # tensors only: nothing says their gain


def test_a_state_dict_of_an_attached_module_without_a_scale_remembers_its_gain():
    def network(gain):
        layers = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))
        attach(layers, after="1", attn=lambda channels, **_: nn.Conv2d(channels, channels, 1), gain=gain)
        return layers

    with pytest.raises(RuntimeError, match=r"gain=0\.5"):
        network(1.0).load_state_dict(network(0.5).state_dict())
    network(0.5).load_state_dict(network(0.5).state_dict())
