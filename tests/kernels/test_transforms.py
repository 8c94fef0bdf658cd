"""Transforms and tracers take the definition, whichever implementation was chosen."""

import pytest
import torch
from equivalence import step
from inputs import draw
from kernel_cases import DOUBLE, STRICT, block, slow
from tolerances import assert_close
from torch import Tensor
from torch.func import functional_call, grad, jvp, vmap

from sase_attn import kernels

pytestmark = STRICT


def test_function_transforms_take_the_definition(backend, calls):
    module = block("sase", training=False)
    x = draw(3, 6, 4, 3, dtype=DOUBLE)
    state = {name: value.detach() for name, value in (*module.named_parameters(), *module.named_buffers())}
    y, grads = step(module, x)

    def call(x: Tensor) -> Tensor:
        return functional_call(module, state, (x,))

    def gradient(x: Tensor) -> Tensor:
        return grad(lambda x: call(x).square().sum())(x)

    direction = draw(*x.shape, seed=3, dtype=DOUBLE)
    with kernels.backend(backend), calls() as names:
        assert_close(vmap(lambda sample: call(sample[None])[0])(x), y)
        assert_close(gradient(x), grads["input"])
        value, slope = jvp(call, (x,), (direction,))
        assert_close(value, y)
        assert_close((2 * y * slope).sum(), (grads["input"] * direction).sum())
        assert jvp(gradient, (x,), (direction,))[1].isfinite().all()
        with torch.autograd.forward_ad.dual_level():
            dual = module(torch.autograd.forward_ad.make_dual(x, direction))
            assert_close(torch.autograd.forward_ad.unpack_dual(dual).tangent, slope)
        assert not names
        module(x)
        assert names


@pytest.mark.filterwarnings("ignore")
@slow
def test_tracers_take_the_definition(backend, calls):
    module = block("sase", training=False)
    x = draw(2, 6, 4, 3, dtype=DOUBLE)
    y = module(x)
    torch.use_deterministic_algorithms(False)
    with kernels.backend(backend):
        for strict in (False, True):
            program = torch.export.export(module, (x,), strict=strict)
            assert "sase_attn" not in program.graph_module.code
        traced, scripted = torch.jit.trace(module, x), torch.jit.script(module)
        assert "sase_attn::" not in str(traced.inlined_graph)
        with calls() as names:
            for form in (program.module(), traced, scripted):
                assert_close(form(x), y)
        assert not names
        assert_close(torch.fx.symbolic_trace(module)(x), y)
        assert_close(torch.compile(module, backend="aot_eager", fullgraph=True)(x), y)
        fake = torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True)
        with fake:
            assert module(fake.from_tensor(x)).shape == y.shape
