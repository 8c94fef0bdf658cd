"""Second derivatives of operations where roots are zero, as the exact second order of a search needs them."""

import pytest
import torch
from tolerances import assert_close

from sase_attn import kernels
from sase_attn.ops import OP_SETS, create_op
from sase_attn.statistics import twice_differentiable

OPS = [(set_name, name) for set_name, ops in OP_SETS.items() for name in ops]
SHAPES = {
    "channel_squeeze": (2, 8, 5, 4),
    "spatial_squeeze": (2, 8, 5, 4),
    "channel_excite": (2, 8, 1, 1),
    "spatial_excite": (2, 1, 5, 4),
}


def derivatives(op, x):
    """Output, gradient along fixed weights, and the gradient of that along others."""
    inputs = [x, *op.parameters()]
    y = op(x)
    first = torch.autograd.grad((y * y.detach().cos()).sum(), inputs, create_graph=True, materialize_grads=True)
    slope = sum((g * (1 + torch.arange(g.numel()).view_as(g)).cos()).sum() for g in first)
    second = torch.autograd.grad(slope, inputs, materialize_grads=True) if slope.requires_grad else []
    return [y, *first, *second]


@pytest.mark.parametrize(("set_name", "name"), OPS)
def test_finite_for_zero_and_constant_maps_and_torchs_elsewhere(set_name, name):
    op = create_op(set_name, name, 8, dtype=torch.float64).eval()
    with kernels.backend("torch"):
        for x in (torch.zeros(SHAPES[set_name]), torch.full(SHAPES[set_name], 0.3)):
            with twice_differentiable():
                found = derivatives(op, x.double().requires_grad_())
            assert all(value.isfinite().all() for value in found)
        x = torch.randn(SHAPES[set_name], dtype=torch.float64).requires_grad_()
        expected = derivatives(op, x)
        with twice_differentiable():
            found = derivatives(op, x)
    for ours, theirs in zip(found, expected, strict=True):
        if theirs.abs().max() > 1e-9:  # "l2norm" over positions is a constant: its derivatives are rounding
            assert_close(ours, theirs, tolerance=1e-10)
