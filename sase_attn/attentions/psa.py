"""PSA: Pyramid Squeeze Attention, EPSANet, arXiv 2105.14447."""

import math

import torch
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.attention import Attention
from sase_attn.attentions.layers import Pointwise, divisor
from sase_attn.channel_axes import Axes
from sase_attn.ops.arguments import multiple, odd, positive, reduced_channels


class PSA(Attention):
    """Four grouped convolutions of different size, each C→C/4, weighted by a softmax over them, and concatenated.

    The weight of a channel of a branch is the softmax over the four branches of sigmoid(fc2(ReLU(fc1(mean over H, W))))
    of that branch; the layers are shared by the branches.

    Parameters: `sum(C//4*C//g*k*k for k, g in branches) + 2*q*h + h + q`; MACs:
    `N*sum(C//4*C//g*k*k for k, g in branches) + 8*q*h`; branches (k, g) = (3, 1), (5, 4), (7, 8), (9, 16); q = C/4,
    h = q/16, N = H·W of the output. Takes the place of the 3×3 convolution of a bottleneck.

    Deviations: the branches are concatenated in the order of their kernels (in the authors' code, in reverse); a number
    of groups that does not divide C/4 is lowered to the next divisor.

    Args:
        channels: C, a multiple of 4.
        stride: stride of the convolutions; the output is (B, C, ⌈H/stride⌉, ⌈W/stride⌉).
        kernels: sizes of the four convolutions, odd.
        groups: groups of each convolution.
        rd_ratio: hidden width of the shared layers relative to C/4.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    never_constant = "it takes the place of a convolution"

    def __init__(
        self,
        channels: int,
        stride: int = 1,
        kernels: tuple[int, int, int, int] = (3, 5, 7, 9),
        groups: tuple[int, int, int, int] = (1, 4, 8, 16),
        rd_ratio: float = 1 / 16,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        multiple("channels", channels, 4)
        for name, values, check in (("kernels", kernels, odd), ("groups", groups, positive)):
            if not isinstance(values, tuple | list) or len(values) != 4:
                raise ValueError(f"{name} must be four numbers, got {values!r}")
            for value in values:
                check(f"each of {name}", value)
        self.channels = channels
        quarter = channels // 4
        self.branches = nn.ModuleList(
            nn.Conv2d(
                channels,
                quarter,
                kernel,
                positive("stride", stride),
                kernel // 2,
                groups=divisor(quarter, group),
                bias=False,
                device=device,
                dtype=dtype,
            )
            for kernel, group in zip(kernels, groups, strict=True)
        )
        hidden = reduced_channels(quarter, rd_ratio)
        self.fc1 = Pointwise(quarter, hidden, device=device, dtype=dtype)
        self.fc2 = Pointwise(hidden, quarter, device=device, dtype=dtype)

    def attend(self, x: Tensor) -> Tensor:
        maps, gates = [], []
        for branch in self.branches:
            y = branch(x)
            maps.append(y)
            gates.append(torch.sigmoid(self.fc2(torch.relu(self.fc1(statistics.mean(y, [2, 3]))))))
        weights = torch.softmax(torch.stack(gates, dim=1), dim=1).flatten(1, 2)
        y = torch.cat(maps, dim=1)
        return y * weights.to(y.dtype)

    def channel_axes(self) -> dict[str, Axes]:
        branches: dict[str, Axes] = {f"branches.{index}.weight": (0, 1) for index in range(len(self.branches))}
        return branches | {"fc1.weight": 1, "fc2": 0}

    def channel_groups(self) -> int:
        return 4 * math.lcm(*(branch.groups for branch in self.branches if isinstance(branch, nn.Conv2d)))
