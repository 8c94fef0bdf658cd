"""The skip modules against the authors' values, slow loops and published sizes, and at every size they may meet."""

import copy

import pytest
import torch
from checkout import REFERENCE_FILES
from inputs import draw, randomise
from literature_oracle_maps import spatially_adaptive_skip
from safetensors.torch import load_file
from tolerances import REFERENCE, assert_close
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sase_attn.spatially_adaptive import SkipLayerExcitation, SpatiallyAdaptiveSkip, add_spectral_norm

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("error")]
DOUBLE = torch.float64

# Our layers, and what they are called in each group of the authors' code.
LAYERS = {
    "styles.fc1": "channel_attn.{}.2",
    "styles.norm": "channel_attn.{}.3",
    "styles.fc2": "channel_attn.{}.5",
    **{f"masks.{i}": f"spatial_attn.{{}}.{i}" for i in (0, 1, 3, 4, 6, 7, 9)},
}


def authors_module() -> tuple[SpatiallyAdaptiveSkip, dict[str, Tensor]]:
    """Theirs have a spectral norm a group, of vectors that are no unit vectors in the reference."""
    tensors = load_file(REFERENCE_FILES / "literature.safetensors")
    tensors = {key.removeprefix("slim_skip/eval/"): value for key, value in tensors.items() if "slim_skip" in key}
    module = SpatiallyAdaptiveSkip(32, 8, reduction=2, dilation=2, spectral_norm=True).eval()
    unread = {key for key in tensors if key.startswith("param/")}
    state = module.state_dict()
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        layer, _, name = key.replace(".parametrizations.weight.", ".").replace(".0._", "._").rpartition(".")
        name = {"original": "weight_orig", "_u": "weight_u", "_v": "weight_v"}.get(name, name)
        theirs = [f"param/{LAYERS[layer].format(group)}.{name}" for group in range(4)]
        unread -= set(theirs)
        value.copy_(torch.stack([tensors[part] for part in theirs]).view_as(value))
    assert not unread
    module.load_state_dict(state)
    return module, tensors


def test_reference():
    module, tensors = authors_module()
    target, source = tensors["x1"].requires_grad_(), tensors["x0"].requires_grad_()
    y = module(target, source)
    grads = torch.autograd.grad(y, [source, target], tensors["cotangent"])
    assert_close(y, tensors["y"], tolerance=REFERENCE)
    for grad, name in zip(grads, ("grad_x0", "grad_x1"), strict=True):
        assert_close(grad, tensors[name], tolerance=REFERENCE)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    "options, given",
    [
        ({}, {}),
        ({"dilation": 3, "groups": 2, "style_norm": False}, {"dilation": 3, "groups": 2}),
        ({"normalize": "softmax", "groups": 1}, {"softmax_masks": True, "groups": 1}),
    ],
    ids=str,
)
def test_oracle(options, given, training):
    module = SpatiallyAdaptiveSkip(8, 3, reduction=1, dtype=DOUBLE, **options).train(training)
    randomise(module)
    params = {key: value.numpy().copy() for key, value in module.state_dict().items() if "tracked" not in key}
    for high, low in (((5, 7), (2, 3)), ((3, 2), (4, 4)), ((6, 3), (6, 3))):
        target, source = draw(3, 3, *high, dtype=DOUBLE), draw(3, 8, *low, seed=1, dtype=DOUBLE)
        expected = spatially_adaptive_skip(target.numpy(), source.numpy(), params, training, **given)
        assert (expected / target.numpy()).std() > 1e-3
        assert_close(module(target, source), torch.from_numpy(expected), tolerance=1e-9)


def test_noise_is_one_map_for_all_masks():
    module = randomise(SpatiallyAdaptiveSkip(8, 3, reduction=1, mask_noise=True, dtype=DOUBLE)).eval()
    target, source = draw(2, 3, 4, 6, dtype=DOUBLE), draw(2, 8, 2, 3, seed=1, dtype=DOUBLE)
    params = {key: value.numpy() for key, value in module.state_dict().items() if "tracked" not in key}
    torch.manual_seed(5)
    y = module(target, source)
    torch.manual_seed(5)
    noise = (module.noise.detach() * torch.randn(2, 1, 2, 3, dtype=DOUBLE)).numpy()
    assert_close(y, torch.from_numpy(spatially_adaptive_skip(target.numpy(), source.numpy(), params, noise=noise)))
    assert not torch.equal(module(target, source), y)
    fresh = SpatiallyAdaptiveSkip(8, 3, mask_noise=True, dtype=DOUBLE).eval()
    assert fresh.noise.item() == 0 and torch.equal(fresh(target, source), fresh(target, source))
    assert torch.autograd.grad(fresh(target, source).square().sum(), fresh.noise)[0].any()


@pytest.mark.parametrize(
    "source, target, adaptive, excitation",
    [(512, 64, 15_524, 528_384), (256, 32, 4_052, 132_096), (128, 16, 1_100, 33_024), (64, 8, 320, 8_256)],
)
def test_parameters(source, target, adaptive, excitation):
    for kind, wanted in ((SpatiallyAdaptiveSkip, adaptive), (SkipLayerExcitation, excitation)):
        assert sum(p.numel() for p in kind(source, target, device="meta").parameters()) == wanted
    c, r = source // 4, source // 64
    formula = eval("G*(2*c*r + 18*r*r + 13*r + 1 + (r + 1)*Ct)", {"G": 4, "c": c, "r": r, "Ct": target})
    assert formula == adaptive and "`G*(2*c*r + 18*r*r + 13*r + 1 + (r + 1)*Ct)`" in SpatiallyAdaptiveSkip.__doc__


def test_the_least_width():
    wide = SpatiallyAdaptiveSkip(64, 8, min_hidden=4)
    assert wide.styles.fc1.weight.shape == (16, 16, 1, 1) and wide.masks[3].weight.shape == (16, 4, 3, 3)


@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_gradcheck(training, spectral_norm):
    module = SpatiallyAdaptiveSkip(4, 2, groups=2, reduction=1, dtype=DOUBLE, spectral_norm=spectral_norm)
    module = randomise(module) if not spectral_norm else module
    module.train(training)
    target, source = draw(2, 2, 4, 3, dtype=DOUBLE).requires_grad_(), draw(2, 4, 2, 3, dtype=DOUBLE).requires_grad_()

    def call(*tensors: Tensor) -> Tensor:
        parameters = dict(zip(dict(module.named_parameters()), tensors[2:], strict=True))
        own = copy.deepcopy(module)  # statistics and power iteration move
        return torch.func.functional_call(own, parameters, tensors[:2])

    given = [target, source, *(p.detach().clone().requires_grad_() for p in module.parameters())]
    assert torch.autograd.gradcheck(call, given, fast_mode=True)


@pytest.mark.parametrize("kind", [SpatiallyAdaptiveSkip, SkipLayerExcitation])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_every_size_and_every_dead_map(kind, training):
    module = kind(8, 6).train(training)
    for batch, high, low in ((1, (8, 8), (4, 4)), (3, (7, 5), (3, 2)), (2, (1, 1), (1, 1)), (1, (9, 2), (1, 1)),
                             (1, (2, 2), (5, 5)), (0, (4, 4), (2, 2))):  # fmt: skip
        for fill in (None, 0.0, 3.7):
            target, source = draw(batch, 6, *high), draw(batch, 8, *low, seed=1)
            if fill is not None:
                source.fill_(fill)
            source.requires_grad_()
            y = module(target, source)
            y.sum().backward()
            assert y.shape == target.shape and y.isfinite().all() and source.grad.isfinite().all()
    for value in module.state_dict().values():
        assert value.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", [SpatiallyAdaptiveSkip, SkipLayerExcitation])
def test_half_precision_and_autocast(kind, dtype):
    module = randomise(kind(16, 6)).train()
    target, source = draw(4, 6, 7, 5, dtype=dtype), draw(4, 16, 3, 2, seed=1, dtype=dtype)
    expected = copy.deepcopy(module).double()(target.double(), source.double())
    with torch.autocast("cpu", dtype):
        y = copy.deepcopy(module)(target, source.requires_grad_())
    y.float().square().sum().backward()
    assert y.dtype == dtype and source.grad.isfinite().all()
    limit = 8 * (2e-3 if dtype == torch.float16 else 1.6e-2)  # chains of layers round at each
    assert_close(y, expected, tolerance=limit)
    assert_close(copy.deepcopy(module).to(dtype)(target, source), expected, tolerance=limit)


def test_every_parameter_learns_at_batch_one():
    module = SpatiallyAdaptiveSkip(32, 6, reduction=1, style_norm=False).train()
    module(draw(1, 6, 8, 8), draw(1, 32, 4, 4, seed=1)).square().sum().backward()
    assert not [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]


def test_wrong_maps_are_refused():
    module = SpatiallyAdaptiveSkip(8, 6)
    for target, source, message in (
        (draw(2, 8, 4, 4), draw(2, 8, 2, 2), r"expected an input of shape \(B, 6, H, W\), got \(2, 8, 4, 4\)"),
        (draw(2, 6, 4, 4), draw(2, 6, 2, 2), r"expected an input of shape \(B, 8, H, W\), got \(2, 6, 2, 2\)"),
        (draw(2, 6, 4, 4), draw(1, 8, 2, 2), "target and source must have the same batch size, got 2 and 1"),
        (draw(2, 6, 4, 4).int(), draw(2, 8, 2, 2), "got torch.int32"),
    ):
        with pytest.raises(ValueError, match=message):
            module(target, source)
        if target.shape[1] != 8:
            with pytest.raises(ValueError, match=message):
                SkipLayerExcitation(8, 6)(target, source)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"groups": 3}, "source_channels must be a multiple of 3, got 8"),
        ({"groups": 0}, "groups must be at least 1, got 0"),
        ({"reduction": 0}, "reduction must be at least 1, got 0"),
        ({"reduction": 2.5}, "reduction must be a whole number, got 2.5"),
        ({"dilation": 0}, "dilation must be at least 1, got 0"),
        ({"min_hidden": 0}, "min_hidden must be at least 1, got 0"),
        ({"normalize": "sums"}, "unknown normalize 'sums'; did you mean sum"),
        ({"mask_noise": 1}, "mask_noise must be True or False, got 1"),
        ({"style_norm": None}, "style_norm must be True or False, got None"),
        ({"spectral_norm": "yes"}, "spectral_norm must be True or False, got 'yes'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SpatiallyAdaptiveSkip(8, 6, **options)


def test_spectral_norm_of_each_group():
    torch.manual_seed(0)
    module = SpatiallyAdaptiveSkip(16, 6, reduction=1, spectral_norm=True)
    for _ in range(30):
        module(draw(2, 6, 4, 4), draw(2, 16, 2, 2))
    layers = [layer for layer in module.modules() if parametrize.is_parametrized(layer)]
    assert len(layers) == 6
    for layer in layers:
        for matrix in layer.weight.flatten(1).chunk(4):
            assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(1, abs=0.02)
    assert add_spectral_norm(module) is module and len(layers[0].parametrizations.weight) == 1
    again = copy.deepcopy(module)
    again.load_state_dict(module.state_dict())
    assert torch.equal(
        again.eval()(draw(2, 6, 4, 4), draw(2, 16, 2, 2)), module.eval()(draw(2, 6, 4, 4), draw(2, 16, 2, 2))
    )


def test_spectral_norm_of_ungrouped_layers_is_torchs():
    module = add_spectral_norm(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 3, 4), nn.Linear(5, 2)))
    kinds = {type(layer.parametrizations.weight[0]).__name__ for layer in module}
    assert kinds == {"_SpectralNorm"}
