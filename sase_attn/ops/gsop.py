"""Second-order pooling: covariance → batch norm → row-wise weighting → ReLU → linear.

This is GSoP (global second-order pooling) as in the SASE release. The channel and the spatial operation both use
`SecondOrder`, after they have pooled their map to N rows.
"""

import torch
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.ops.layers import BatchNorm2d, Filter


class SecondOrder(nn.Module):
    """N rows (B, N, M) → their covariance / `divisor` → (B, outputs, 1, 1).

    Parameters, in the release's order: batch norm over the N rows, one weight per entry of the covariance, and the
    final 1×1 layer.
    """

    def __init__(
        self, rows: int, outputs: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.norm = BatchNorm2d(rows, device=device, dtype=dtype)
        self.rows = Filter(rows, 1, rows, 1, device=device, dtype=dtype)
        self.fc = Filter(outputs, rows, 1, 1, device=device, dtype=dtype)

    def forward(self, x: Tensor, divisor: int) -> Tensor:
        covariance = self.norm(statistics.covariance(x, divisor)[..., None])
        weighted = covariance * self.rows.weight.to(covariance.dtype).transpose(0, 1)
        return self.fc(torch.relu(weighted.sum(2, keepdim=True)))
