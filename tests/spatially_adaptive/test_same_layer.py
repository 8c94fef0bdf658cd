"""What takes the place of a convolution: gradients, costs of whole networks, strides on odd maps, what is refused."""

import pytest
import timm
import torch
from inputs import draw, randomise
from tolerances import assert_close
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sase_attn.attentions import create_attention
from sase_attn.spatially_adaptive import LiteralSpatiallyAdaptiveSE, SpatiallyAdaptiveSE

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("error")]
both = pytest.mark.parametrize("kind", [SpatiallyAdaptiveSE, LiteralSpatiallyAdaptiveSE])


@both
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_gradcheck(kind, training):
    module = randomise(kind(4, stride=2, groups=2, min_hidden=1, dtype=torch.float64)).train(training)
    x = draw(2, 4, 3, 5, dtype=torch.float64).requires_grad_()
    names = list(dict(module.named_parameters()))

    def call(x: Tensor, *values: Tensor) -> Tensor:
        buffers = {name: value.clone() for name, value in module.named_buffers()}
        return torch.func.functional_call(module, {**dict(zip(names, values, strict=True)), **buffers}, x)

    given = [p.detach().clone().requires_grad_() for p in module.parameters()]
    assert torch.autograd.gradcheck(call, (x, *given), fast_mode=True)


@pytest.mark.parametrize("name, gmac", [("spatial_sase_resnet50", "3.32"), ("spatial_sase_resnet101", "5.81")])
def test_cost_of_networks(name, gmac):
    model = timm.create_model(name, device="meta").eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 224, 224, device="meta"))
    assert f"{counter.get_total_flops() / 2e9:.2f}" == gmac


@both
def test_a_stride_is_the_mean_of_the_places_that_exist(kind):
    module, x = randomise(kind(8, stride=2)).eval(), draw(1, 8, 7, 5)
    y = module(x)
    module.stride = 1
    whole = module(x)
    assert y.shape == (1, 8, 4, 3)
    assert_close(y[..., 1, 1], whole[..., 2:4, 2:4].mean((2, 3)))
    assert_close(y[..., 3, 2], whole[..., 6, 4])


@both
def test_shapes_agree_with_timms_shortcuts_on_odd_maps(kind):
    model = timm.create_model("resnet26", layers=(1, 1, 1, 1), num_classes=3)
    for stage in (model.layer2, model.layer3, model.layer4):
        stage[0].conv2 = kind(stage[0].conv2.in_channels, stride=2)
    for size in ((33, 65), (97, 32), (33, 33)):
        assert model.eval()(draw(1, 3, *size)).shape == (1, 3)


@both
def test_groups_are_halved_until_they_divide(kind):
    for channels, groups in ((6, 2), (7, 1), (12, 4)):
        assert kind(channels).value.groups == groups


def test_weights_are_a_softmax_of_each_group():
    """With equal logits each channel is the convolution divided by the channels of a group."""
    module, x = SpatiallyAdaptiveSE(16), draw(2, 16, 5, 4)
    for layer in (module.query[3], module.key[3]):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    assert_close(module(x), module.value(x) / 4)


def test_equal_masks_weigh_styles_equally():
    module, x = LiteralSpatiallyAdaptiveSE(8).eval(), draw(2, 8, 5, 4)
    torch.nn.init.zeros_(module.masks[9].weight)
    torch.nn.init.zeros_(module.masks[9].bias)
    assert_close(module(x), module.value(x) * (1 + module.styles(x).mean(1)[:, :, None, None]))


@pytest.mark.parametrize("name", ["spatial_sase", "spatial_sase_literal"])
def test_there_is_no_gain_to_divide_out(name):
    with pytest.raises(ValueError, match="no starting gain, because it takes the place of a convolution, and the norm"):
        create_attention(name, 16, gain="unit")
    x = draw(1, 16, 4, 4)
    torch.manual_seed(0)
    plain = create_attention(name, 16)(x)
    torch.manual_seed(0)
    assert_close(create_attention(name, 16, gain=0.25)(x), 4 * plain)


@both
@pytest.mark.parametrize(
    "options, message",
    [
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"groups": 1.5}, "groups must be a whole number, got 1.5"),
        ({"rd_ratio": 0}, "rd_ratio must be above 0, got 0"),
        ({"min_hidden": 0}, "min_hidden must be at least 1, got 0"),
    ],
)
def test_wrong_options(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(8, **options)


def test_wrong_options_of_masks():
    with pytest.raises(ValueError, match="unknown normalize 'max'"):
        LiteralSpatiallyAdaptiveSE(8, normalize="max")
    with pytest.raises(ValueError, match="style_norm must be True or False, got 'no'"):
        LiteralSpatiallyAdaptiveSE(8, style_norm="no")
