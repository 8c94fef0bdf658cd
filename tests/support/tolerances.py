"""The tolerances of all tests, and the function by which they compare tensors."""

import torch
from torch import Tensor

# The largest error, relative to the largest expected magnitude, of one operation or block computed in two ways.
TOLERANCES = {
    torch.float64: 1e-10,
    torch.float32: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}

# The tolerance for agreement with the authors' release, in float32.
REFERENCE = 1e-4


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """max|actual - expected| / max|expected|, computed in float64; NaN if there is a NaN anywhere, 0 if both are 0."""
    assert actual.shape == expected.shape, f"shapes differ: {tuple(actual.shape)} and {tuple(expected.shape)}"
    actual, expected = actual.detach().double(), expected.detach().double()
    if actual.numel() == 0:
        return 0.0
    error, scale = (actual - expected).abs().max(), expected.abs().max()
    return error.item() if error == 0 else (error / scale).item()


def assert_close(
    actual: Tensor, expected: Tensor, dtype: torch.dtype | None = None, tolerance: float | None = None
) -> None:
    """Fail unless the relative error is within `tolerance`, or that of `dtype` (default: of `actual`)."""
    limit = TOLERANCES[dtype or actual.dtype] if tolerance is None else tolerance
    error = relative_error(actual, expected)
    assert error <= limit, f"relative error {error:.2e}, allowed {limit:.0e}"
