"""Networks of segmentation_models_pytorch, Ultralytics and torchvision's detectors, by modules made like theirs."""

import copy
import pickle

import pytest
import torch
from inputs import draw
from timm.layers import SEModule
from torch import Tensor, nn
from torch.nn import functional as F

from sase_attn import SASEBlock, attach, replace, tile
from sase_attn.insert import Attached, describe_se

pytestmark = pytest.mark.usefixtures("one_thread")


def of(name: str):
    """Give a class the full name of somebody else's."""

    def named(cls):
        cls.__module__, _, cls.__qualname__ = name.rpartition(".")
        return cls

    return named


@of("segmentation_models_pytorch.base.modules.SCSEModule")
class SCSE(nn.Module):
    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.cSE = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.cSE(x)


@of("segmentation_models_pytorch.encoders._senet.SEModule")
class SE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.relu, self.fc2, self.sigmoid = nn.Conv2d(8, 2, 1), nn.ReLU(), nn.Conv2d(2, 8, 1), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.sigmoid(self.fc2(self.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


@of("segmentation_models_pytorch.encoders.mobileone.SEBlock")
class Reduced(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


@of("ultralytics.nn.modules.conv.ChannelAttention")
class Single(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.act = nn.Conv2d(8, 8, 1), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.act(self.fc(x.mean((2, 3), keepdim=True)))


class Inline(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._se_reduce, self._se_expand = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    forward = Reduced.forward


class Layer(nn.Module):
    """A layer in the manner of Ultralytics."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)
        self.f, self.i = -1, 0

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class Net(nn.Module):
    def __init__(self, *attention: nn.Module) -> None:
        super().__init__()
        self.stem, self.attention, self.unused = Layer(), nn.Sequential(*attention), SCSE()

    def forward(self, x: Tensor) -> Tensor:
        assert (self.stem.f, self.stem.i) == (-1, 0)
        return self.attention(self.stem(x))


class Detector(Net):
    """Fails behind its backbone on the meta device, as what suppresses boxes does."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y[y.mean((1, 2, 3)).nonzero()[:, 0]]


@pytest.mark.parametrize("cls", [SE, Reduced, Single])
def test_squeeze_and_excitation_of_others(cls):
    module = cls()
    model, x = Net(module).eval(), draw(2, 3, 9, 8)
    expected, keys = model(x), list(model.state_dict())
    assert describe_se(module).channels == 8
    (tiled,) = tile(copy.deepcopy(model))
    assert (tiled.name, tiled.channels) == ("attention.0", 8)
    whole = copy.deepcopy(model)
    tile(whole, rows=99)
    torch.testing.assert_close(whole(x), expected)
    assert list(whole.state_dict()) == keys
    assert [place.name for place in replace(model, "se", with_="sase")] == ["attention.0"]
    assert model(x).shape == expected.shape


def test_what_no_forward_pass_reaches_is_left_and_said():
    model = Net(SCSE())
    with pytest.warns(
        UserWarning, match=r"no forward pass reaches them: unused \(SCSEModule\)|unused \(SCSE\)"
    ) as record:
        places = replace(model, "scse", with_="scse")
    assert record[0].filename == __file__
    assert [(place.name, place.channels) for place in places] == [("attention.0", 8)]
    with pytest.warns(UserWarning, match="no forward pass reaches them: unused"):
        assert [place.name for place in attach(model, after=["stem", "unused"])] == ["stem"]
    with pytest.raises(ValueError, match=r"output channels of unused \(SCSE\): no forward pass reaches it"):
        attach(model, after="unused")


def test_a_pass_that_fails_behind_the_modules_tells_enough():
    model = Detector(SCSE(), SEModule(8))
    assert [place.name for place in tile(copy.deepcopy(model), count=1)] == ["attention.1"]
    assert [place.name for place in replace(model, "scse", with_="eca", only="attention.0")] == ["attention.0"]
    with pytest.raises(ValueError, match="trial pass.* fails"):
        replace(model, SCSE, with_="eca")  # nothing shows whether `unused` would have been reached


def test_squeeze_and_excitation_without_a_module_is_named():
    with pytest.raises(ValueError, match="1 Inline whose own forward computes it"):
        replace(Net(Inline()), "se", with_="sase")


def test_behind_a_layer_whose_channels_are_seen():
    model, x = Net().eval(), draw(2, 3, 9, 8)
    expected = model(x)
    (place,) = attach(model, after="stem", preserve_output=True)
    assert (place.host, place.channels) == ("Layer", 8)
    torch.testing.assert_close(model(x), expected)
    for other in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model.stem))):
        stem = getattr(other, "stem", other)
        assert (stem.f, stem.i) == (-1, 0) and isinstance(stem, Attached)
    with pytest.raises(AttributeError, match="'Attached' object has no attribute 'conv'"):
        model.stem.conv  # noqa: B018


class Last(nn.Module):
    """A network whose inner maps have their channels last, as those of ConvNeXt and Swin."""

    def __init__(self, size: int | None = None):
        super().__init__()
        self.patches, self.norm, self.size = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8), size

    def forward(self, x: Tensor) -> Tensor:
        if self.size not in (None, x.shape[2]):
            raise ValueError("another size")
        return self.norm(self.patches(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("size", [None, 224])
def test_channels_behind_the_positions_are_refused(size):
    model = Last(size)
    model.output_fmt = "NCHW" if size is None else "NHWC"
    before = list(model.state_dict())
    with pytest.raises(ValueError, match=r"norm \(LayerNorm\) returns \(1, 56, 56, 8\), a map with its channels last"):
        attach(model, after="norm")
    with pytest.raises(ValueError, match=r"norm \(LayerNorm\) returns \(1, 56, 56, 8\), a map with its channels last"):
        replace(model, nn.LayerNorm, with_="se")
    assert list(model.state_dict()) == before


def test_a_network_with_parameters_of_integers():
    model = Net()
    model.register_parameter("table", nn.Parameter(torch.zeros(2, dtype=torch.int8), requires_grad=False))
    assert next(model.parameters()) is model.table
    assert attach(model, after="stem")[0].channels == 8


def test_a_tool_that_would_fold_the_norm_is_told():
    attached = Attached(nn.BatchNorm2d(8), SASEBlock(8))
    assert attached.num_features == 8 and not hasattr(attached, "running_var")
    with pytest.raises(AttributeError, match="Attached has no 'weight', which is that of its host, a BatchNorm2d"):
        attached.weight  # noqa: B018


def test_attention_has_the_mode_of_its_host():
    for training in (False, True):
        attached = Attached(nn.BatchNorm2d(8).train(training), SASEBlock(8).train(not training))
        assert all(module.training == training for module in attached.modules())
