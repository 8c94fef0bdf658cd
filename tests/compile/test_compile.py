"""`torch.compile` with dynamic sizes: no graph breaks, no needless recompilations, eager's values and gradients.

"aot_eager" traces forward and backward as the default backend does, but generates no code.
"""

import copy
import pickle
from collections.abc import Iterator

import pytest
import timm
import torch
from equivalence import GENOTYPES, SIMPLE, assert_same_steps, step
from inputs import OPS, draw, input_shape, randomise
from tolerances import assert_close
from torch import Tensor, nn
from torch._dynamo.utils import counters

import sase_attn  # noqa: F401  registers the models with timm
from sase_attn import SASEBlock, create_op

pytestmark = pytest.mark.usefixtures("one_thread", "fresh_dynamo")
DOUBLE = torch.float64

# Dimensions of 1 are left out, and batches of 16 and more: torch compiles for these anew, by itself and on CPU.
SHAPES = [(2, 24, 5, 6), (3, 24, 9, 4), (5, 24, 7, 7), (4, 24, 2, 12)]


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def graphs() -> int:
    """Graphs compiled in this test."""
    return counters["stats"]["unique_graphs"]


def inputs_of(op_set: str) -> list[Tensor]:
    """Maps of dynamic sizes; the last is zero, where roots have no derivative."""
    inputs = [draw(*input_shape(op_set, *shape), dtype=DOUBLE) for shape in SHAPES]
    inputs.append(torch.zeros_like(inputs[1]))
    for x in inputs:
        for dim in (0,) if op_set == "channel_excite" else (0, 2, 3):
            torch._dynamo.mark_dynamic(x, dim)
    return inputs


def compiled(module: nn.Module, backend: str = "aot_eager", dynamic: bool | None = True) -> nn.Module:
    return torch.compile(copy.deepcopy(module), fullgraph=True, dynamic=dynamic, backend=backend)


def block(genotype: str, training: bool = True) -> nn.Module:
    return randomise(SASEBlock(24, genotype, dtype=DOUBLE)).train(training)


@pytest.mark.parametrize("op_set, name", OPS)
def test_every_op_compiles_once_for_all_sizes(op_set, name):
    op = randomise(create_op(op_set, name, 24, dtype=DOUBLE))
    assert_same_steps(compiled(op), op, inputs_of(op_set))
    assert graphs() == 1


# Each takes ten seconds to trace. In training and float32 `test_compile_values.py` has four of them too.
@pytest.mark.parametrize(
    "name, training",
    [
        pytest.param(name, training, id=f"{name}-{mode}", marks=() if always else pytest.mark.slow)
        for name in GENOTYPES
        for training, mode in [(True, "train"), (False, "eval")]
        for always in [name == "sase" or (name, training) == ("random paper 2", False)]
    ],
)
def test_block_compiles_once_for_all_sizes(name, training):
    eager = block(GENOTYPES[name], training)
    assert_same_steps(compiled(eager), eager, inputs_of("channel_squeeze"))
    assert graphs() == 1


@pytest.mark.parametrize(
    "genotype, training",
    [
        pytest.param(genotype, training, id=f"{name}-{'train' if training else 'eval'}", marks=marks)
        for name, genotype in GENOTYPES.items()
        for training in (True, False)
        for marks in [() if (name, training) == ("sase", True) else pytest.mark.slow]
    ],
)
def test_generated_code_of_the_block(genotype, training):
    eager = block(genotype, training)
    assert_same_steps(compiled(eager, backend="inductor"), eager, inputs_of("channel_squeeze"))
    assert graphs() == 1


def test_sizes_that_torch_specialises_are_right_too():
    """A dimension of 1; a batch of 16, above which torch's CPU convolutions run differently."""
    eager = block("sase").float()
    shapes = [(2, 24, 5, 6), (1, 24, 1, 1), (16, 24, 5, 6), (40, 24, 9, 4), (3, 24, 9, 4)]
    # Of the mixer's weights the norm behind leaves little: 1e-4 of a sum of large terms.
    assert_same_steps(compiled(eager), eager, [draw(*shape) for shape in shapes], tolerance=5e-4)
    assert graphs() <= 3


def test_default_settings_compile_twice():
    """The second size shows torch which dimensions vary."""
    eager = block(SIMPLE)
    inputs = [draw(*shape, dtype=DOUBLE) for shape in SHAPES]
    assert_same_steps(compiled(eager, dynamic=None), eager, inputs)
    assert graphs() == 2


@pytest.mark.parametrize(
    "name, dtype",
    [
        ("sase", torch.float16),
        ("random 4", torch.bfloat16),
        ("sase", torch.bfloat16),
        ("random 1", torch.float16),
    ],
)
def test_under_autocast(name, dtype):
    """As in eager mode, autocast does not change the block, and takes no graph break to be turned off."""
    torch.manual_seed(0)
    eager = SASEBlock(24, GENOTYPES[name])
    module = compiled(eager, dynamic=False)  # other sizes are the tests' above: symbols make tracing slow
    x = draw(*SHAPES[0], dtype=dtype)
    with torch.autocast("cpu", dtype):
        y, grads = step(module, x)
    expected, expected_grads = step(eager, x)
    assert y.dtype == dtype
    assert_close(y, expected)
    for name, grad in grads.items():
        assert_close(grad, expected_grads[name])
    assert graphs() == 1


def test_copies_of_a_compiled_block():
    """Of the simplest block: each copy is compiled anew."""
    eager = SASEBlock(24, SIMPLE).eval()
    x = draw(2, 24, 5, 6)
    y = eager(x)
    wrapped = compiled(eager)
    in_place = copy.deepcopy(eager)
    in_place.compile(backend="aot_eager", fullgraph=True)
    for module in (wrapped, in_place):
        assert_close(module(x), y)
        for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert_close(twin(x), y)
    assert in_place.state_dict().keys() == eager.state_dict().keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sase_resnet18", "sase_resnet20"])
def test_whole_model(name):
    torch.manual_seed(0)
    eager = timm.create_model(name, num_classes=10).double()
    inputs = [draw(2, 3, 64, 64, dtype=DOUBLE), draw(3, 3, 48, 80, dtype=DOUBLE), draw(5, 3, 96, 64, dtype=DOUBLE)]
    for x in inputs:
        for dim in (0, 2, 3):
            torch._dynamo.mark_dynamic(x, dim)
    assert_same_steps(compiled(eager, backend="inductor"), eager, inputs, tolerance=1e-8)
    assert graphs() == 1
