"""Our batch norm keeps all of the contract of `nn.BatchNorm2d`, in every attention that has one."""

import copy
import warnings

import pytest
import timm
import torch
from inputs import draw, randomise
from norm_states import STATES, averaging, in_state, without_weights
from timm.layers import freeze_batch_norm_2d
from tolerances import assert_close
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from sase_attn import SASEBlock, create_attention, list_attentions
from sase_attn.ops.layers import BatchNorm2d

pytestmark = pytest.mark.usefixtures("one_thread")
DOUBLE = torch.float64


def has_norms(module: nn.Module) -> bool:
    return any(isinstance(part, BatchNorm2d) for part in module.modules())


def attention(name: str) -> nn.Module:
    return randomise(create_attention(name, 8, dtype=DOUBLE))


WITH_NORMS = [name for name in list_attentions() if has_norms(create_attention(name, 8))]


def of_torch(module: nn.Module) -> nn.Module:
    """A copy with torch's own norms."""
    module = copy.deepcopy(module)
    for part in module.modules():
        if type(part) is BatchNorm2d:
            part.__class__ = nn.BatchNorm2d
    return module


def steps(module: nn.Module, *inputs: Tensor) -> list[Tensor]:
    """What three steps in train mode and one in eval mode give and leave behind."""
    found = []
    for number, x in enumerate(inputs):
        module.train(number < len(inputs) - 1)
        x = x.clone().requires_grad_()
        y = module(x)
        leaves = [x, *module.parameters()]
        grads = torch.autograd.grad(y.square().sum(), leaves, materialize_grads=True)
        found += [y.detach(), *grads, *(buffer.clone().double() for buffer in module.buffers())]
    return found


def assert_same(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-9) -> None:
    assert len(found) == len(expected)
    for value, other in zip(found, expected, strict=True):
        torch.testing.assert_close(value, other, rtol=tolerance, atol=tolerance)


def inputs(*shape: int) -> list[Tensor]:
    return [draw(*shape, seed=seed, dtype=DOUBLE) * (seed + 1) for seed in range(4)]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("momentum", [0.1, 1.0])
def test_norm(state, momentum):
    norm = in_state(randomise(BatchNorm2d(4, eps=1e-3, momentum=momentum, dtype=DOUBLE)), state)
    found, expected = (steps(module, *inputs(3, 4, 2, 5)) for module in (copy.deepcopy(norm), of_torch(norm)))
    assert_same(found, expected)


@pytest.mark.parametrize("arguments", [{"affine": False}, {"track_running_stats": False}, {"momentum": None}])
def test_norm_that_is_built_so(arguments):
    norm = BatchNorm2d(4, dtype=DOUBLE, **arguments)
    assert_same(*(steps(module, *inputs(3, 4, 2, 5)) for module in (copy.deepcopy(norm), of_torch(norm))))


@pytest.mark.parametrize("state", STATES)
def test_norm_stored_in_another_type(state):
    """float32 statistics and a half-precision map; half-precision statistics and a float32 map."""
    x = draw(3, 4, 2, 5)
    norm = in_state(randomise(BatchNorm2d(4)), state)
    for stored, dtype in ((torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)):
        module = copy.deepcopy(norm).to(stored)
        y = module(x.to(dtype))
        assert y.dtype == dtype
        assert_close(y, of_torch(norm)(x), torch.bfloat16)
        for value, other in zip(module.buffers(), norm.buffers(), strict=True):
            assert value.dtype in (stored, torch.int64) and value.shape == other.shape


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (0, 4, 2, 2)])
@pytest.mark.parametrize("state", STATES)
def test_one_value_or_none(state, shape):
    norm = in_state(randomise(BatchNorm2d(4, dtype=DOUBLE)), state)
    before = [buffer.clone() for buffer in norm.buffers()]
    y = norm.train()(draw(*shape, dtype=DOUBLE))
    bias = torch.zeros(4, dtype=DOUBLE) if norm.bias is None else norm.bias
    assert_close(y, bias[None, :, None, None].expand(shape))
    assert all(torch.equal(*pair) for pair in zip(norm.buffers(), before, strict=True))


@pytest.mark.parametrize("state", STATES)
def test_scripted_and_compiled(state):
    norm = in_state(randomise(BatchNorm2d(4, dtype=DOUBLE)), state)
    expected = steps(of_torch(norm), *inputs(3, 4, 2, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(copy.deepcopy(norm))
    assert_same(steps(scripted, *inputs(3, 4, 2, 5)), expected)
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(norm), backend="eager", fullgraph=True)
    assert_same(steps(compiled, *inputs(3, 4, 2, 5)), expected)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", WITH_NORMS)
def test_attention(name, state):
    """With our norms as with torch's, whose contract it is."""
    module = in_state(attention(name), state)
    assert_same(*(steps(part, *inputs(3, 8, 5, 4)) for part in (copy.deepcopy(module), of_torch(module))), 1e-6)


def test_those_with_norms():
    assert {"sase", "cbam", "bam", "srm", "gsop", "autola", "ge_theta", "ge_theta_plus", "spatial_sase"} <= {
        *WITH_NORMS
    }


@pytest.mark.parametrize("name", WITH_NORMS)
def test_update_bn(name):
    """Of stochastic weight averaging."""
    module = nn.Sequential(nn.Conv2d(8, 8, 1, dtype=DOUBLE), attention(name), nn.Flatten(1))
    other = of_torch(module)
    for network in (module, other):
        update_bn(inputs(3, 8, 5, 4), network)
    buffers = [[buffer.double() for buffer in network.buffers()] for network in (module, other)]
    assert any(norm.num_batches_tracked == 4 for norm in module.modules() if isinstance(norm, BatchNorm2d))
    assert_same(*buffers)


@pytest.mark.parametrize("state", [averaging, pytest.param(without_weights, marks=pytest.mark.slow)])
def test_compiled_block(state):
    block = in_state(randomise(SASEBlock(8, dtype=DOUBLE)), state)
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(block), backend="eager", fullgraph=True)
    assert_same(steps(compiled, *inputs(3, 8, 5, 4)), steps(block, *inputs(3, 8, 5, 4)), 1e-6)


def test_samples_by_vmap():
    """`torch.func` has networks without running statistics mapped over samples."""
    block = randomise(SASEBlock(8, dtype=DOUBLE)).train()
    torch.func.replace_all_batch_norm_modules_(block)
    x = draw(2, 3, 8, 5, 4, dtype=DOUBLE)
    assert_close(torch.vmap(block)(x), torch.stack([block(sample) for sample in x]))


def test_frozen_by_timm():
    network = nn.Sequential(SASEBlock(8, dtype=DOUBLE).eval())
    randomise(network)
    x = draw(2, 8, 5, 4, dtype=DOUBLE)
    expected = network(x)
    assert type(freeze_batch_norm_2d(network)[0].norm) is not BatchNorm2d
    assert_close(network.train()(x), expected)


def test_a_whole_network_averages():
    """Those of the host and ours."""
    network = timm.create_model("sase_resnet20", layers=(1, 1, 1)).double()
    images = [draw(2, 3, 16, 16, seed=seed, dtype=DOUBLE) for seed in range(2)]
    other = of_torch(network)
    update_bn(images, network)
    update_bn(images, other)
    assert_same(*([buffer.double() for buffer in one.buffers()] for one in (network, other)))
