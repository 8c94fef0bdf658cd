"""`torch.jit.script` and `trace`, `torch.fx` alone and in timm and torchvision, `torch.func`."""

import copy
import io
import pickle
from functools import partial

import pytest
import timm
import torch
from equivalence import GENOTYPES, assert_same_steps, step
from inputs import OPS, draw, input_shape, randomise
from pairwise import pairwise
from tolerances import assert_close
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.resnet import BasicBlock, ResNet

from sase_attn import SASEBlock, attach, create_op

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore::torch.jit.TracerWarning"),
]
DOUBLE = torch.float64
every_op = pytest.mark.parametrize("op_set, name", OPS)
every_genotype = pytest.mark.parametrize("genotype", GENOTYPES.values(), ids=GENOTYPES.keys())
both_modes = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])


def op_and_inputs(op_set: str, name: str, training: bool) -> tuple[nn.Module, list[Tensor]]:
    op = randomise(create_op(op_set, name, 24, dtype=DOUBLE)).train(training)
    return op, inputs_of(op_set)


def block_and_inputs(genotype: str, training: bool) -> tuple[nn.Module, list[Tensor]]:
    block = randomise(SASEBlock(24, genotype, dtype=DOUBLE)).train(training)
    return block, inputs_of("channel_squeeze")


def inputs_of(op_set: str) -> list[Tensor]:
    """The first is the one to trace with; zeros, where roots have no derivative, are among the others; one is 1×1."""
    shapes = [(2, 24, 5, 6), (3, 24, 9, 4), (2, 24, 1, 5), (4, 24, 8, 8), (1, 24, 1, 1)]
    inputs = [draw(*input_shape(op_set, *shape), dtype=DOUBLE) for shape in shapes]
    return [*inputs[:-1], torch.zeros_like(inputs[1]), inputs[-1]]


def scripted(module: nn.Module) -> nn.Module:
    """Scripted, saved and loaded."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(copy.deepcopy(module)), file)
    file.seek(0)
    return torch.jit.load(file)


def traced(module: nn.Module, x: Tensor) -> nn.Module:
    trace = torch.jit.trace(copy.deepcopy(module), x, check_trace=False)
    trace.load_state_dict(module.state_dict())  # tracing is a step of its own
    return trace


def fx_traced(module: nn.Module) -> nn.Module:
    """As a `torch.fx.GraphModule`, pickled and loaded."""
    graph_module = torch.fx.symbolic_trace(copy.deepcopy(module))
    return pickle.loads(pickle.dumps(graph_module))


@every_op
@both_modes
def test_script_of_every_op(op_set, name, training):
    op, inputs = op_and_inputs(op_set, name, training)
    assert_same_steps(scripted(op), op, inputs)


@every_op
@both_modes
def test_trace_of_every_op_at_other_sizes(op_set, name, training):
    op, inputs = op_and_inputs(op_set, name, training)
    # A trace computes powers of its sizes in float32, and fixes which sizes have one value per channel in training.
    assert_same_steps(traced(op, inputs[0]), op, inputs[:-1] if training else inputs, tolerance=1e-6)


@every_op
@both_modes
def test_fx_of_every_op(op_set, name, training):
    op, inputs = op_and_inputs(op_set, name, training)
    assert_same_steps(fx_traced(op), op, inputs)


@every_genotype
@both_modes
def test_script_of_the_block(genotype, training):
    block, inputs = block_and_inputs(genotype, training)
    module = scripted(block)
    # More than twice each: the executor optimises what it has seen.
    assert_same_steps(module, block, inputs * 3)
    with pytest.raises(torch.jit.Error, match=r"expected an input of shape \(B, 24, H, W\), got \(2, 23, 5, 6\)"):
        module(draw(2, 23, 5, 6, dtype=DOUBLE))


@every_genotype
@both_modes
def test_trace_of_the_block_at_other_sizes(genotype, training):
    block, inputs = block_and_inputs(genotype, training)
    assert_same_steps(traced(block, inputs[0]), block, inputs[:-1] if training else inputs, tolerance=1e-6)


@every_genotype
@both_modes
def test_fx_of_the_block(genotype, training):
    block, inputs = block_and_inputs(genotype, training)
    assert_same_steps(fx_traced(block), block, inputs)
    assert_same_steps(scripted(fx_traced(block)), block, inputs)


@pytest.mark.parametrize(
    "name, training, dtype", pairwise(GENOTYPES, [False, True], [torch.float16, torch.bfloat16]), ids=str
)
def test_script_under_autocast(name, training, dtype):
    """A scripted block cannot turn autocast off: its convolutions run in half precision, unlike an eager one's."""
    torch.manual_seed(0)
    block = SASEBlock(24, GENOTYPES[name]).train(training)
    for x in (draw(2, 24, 5, 6), draw(2, 24, 5, 6).to(dtype)):
        module = torch.jit.script(copy.deepcopy(block))
        with torch.autocast("cpu", dtype):
            y = module(x)
        assert y.dtype == x.dtype
        assert_close(y, copy.deepcopy(block)(x), dtype=dtype)


@pytest.mark.parametrize("name", ["sase", "random 1"])
@both_modes
def test_fx_features_of_timm(name, training):
    arguments = dict(block_args=dict(attn_layer=partial(SASEBlock, genotype=GENOTYPES[name])))
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", **arguments, zero_init_last=False).train(training)
    features = timm.create_model("resnet10t", **arguments, features_only=True, feature_cls="fx").train(training)
    state = {f"graph_module.{key}": value for key, value in model.state_dict().items()}
    assert features.load_state_dict(state, strict=False).missing_keys == []
    twin = copy.deepcopy(model)
    for x in (draw(2, 3, 64, 48), draw(3, 3, 33, 70)):
        for value, expected in zip(features(x), twin.forward_intermediates(x, intermediates_only=True), strict=True):
            assert_close(value, expected)
    for value, expected in zip(torch.jit.script(features)(x), features(x), strict=True):
        assert_close(value, expected)


@pytest.mark.parametrize("name", ["sase", "random 1"])
@both_modes
def test_feature_extractor_of_torchvision(name, training):
    torch.manual_seed(0)
    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)
    attach(model, after="layer*.*.bn2", attn=GENOTYPES[name])
    model.train(training)
    extractor = create_feature_extractor(
        copy.deepcopy(model), {"layer2.0.bn2.attn": "gated", "layer4.0.bn2.attn.norm": "norm", "fc": "logits"}
    )
    kept: dict[str, Tensor] = {}
    attn = {"gated": model.layer2[0].bn2.attn, "norm": model.layer4[0].bn2.attn.norm}
    for key, module in attn.items():  # copies, because the network adds the shortcut in place
        module.register_forward_hook(lambda _, __, y, key=key: kept.update({key: y.clone()}))
    for x in (draw(2, 3, 64, 48), draw(3, 3, 33, 70)):
        kept["logits"] = model(x)
        for key, value in extractor(x).items():
            assert_close(value, kept[key])
    script = torch.jit.script(extractor)
    for key, value in extractor(x).items():
        assert_close(script(x)[key], value)


def assert_transforms_agree(module: nn.Module, x: Tensor) -> None:
    """vmap, per-sample and forward-mode derivatives of a module in eval mode against plain batches and backward."""
    state = {name: value.detach() for name, value in (*module.named_parameters(), *module.named_buffers())}
    parameters = {name: state[name] for name, _ in module.named_parameters()}
    y, grads = step(module, x)

    def call(values: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(module, {**state, **values}, (x,))

    def loss(values: dict[str, Tensor], x: Tensor) -> Tensor:
        return call(values, x).square().sum()

    assert_close(vmap(lambda sample: module(sample[None])[0])(x), y)
    for name, value in grad(loss)(parameters, x).items():
        assert_close(value, grads[name])
    per_sample = vmap(grad(lambda values, sample: loss(values, sample[None])), (None, 0))(parameters, x)
    for name, value in per_sample.items():
        assert value.shape[0] == len(x)
        assert_close(value.sum(0), grads[name])
    direction = draw(*x.shape, seed=3, dtype=DOUBLE)
    directions = {name: draw(*value.shape, seed=4, dtype=DOUBLE) for name, value in parameters.items()}
    value, slope = jvp(call, (parameters, x), (directions, direction))
    assert_close(value, y)
    backward = (grads["input"] * direction).sum() + sum((grads[name] * directions[name]).sum() for name in parameters)
    assert_close((2 * y * slope).sum(), backward)


@every_op
def test_function_transforms_of_every_op(op_set, name):
    op, inputs = op_and_inputs(op_set, name, training=False)
    assert_transforms_agree(op, inputs[1])


@every_genotype
def test_function_transforms_of_the_block(genotype):
    block, inputs = block_and_inputs(genotype, training=False)
    assert_transforms_agree(block, inputs[1])
