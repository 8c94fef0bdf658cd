"""Parts of the modules of spatially-adaptive SE: styles and masks of groups of channels, and their mixture."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.ops import functional
from sase_attn.ops.layers import BatchNorm2d, draw_as_torch

NORMALIZERS = ("sum", "softmax")


class GroupedLinear(nn.Module):
    """A fully connected layer for each group of (B, groups·inputs, 1, 1): (B, groups·outputs, 1, 1), in x's type.

    It is no `nn.Conv2d`, because hosts re-initialise those. Its weights are initialised as in torch's own layers.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        groups: int,
        bias: bool = True,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(groups * outputs, inputs, 1, 1, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(groups * outputs, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as torch's own layers do."""
        draw_as_torch(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.conv(x, self.weight, [0, 0], self.groups)
        return y if self.bias is None else y + self.bias.to(x.dtype)[:, None, None]


class Styles(nn.Module):
    """One style vector of `outputs` values for each group of channels: (B, groups, outputs), unbounded.

    It is fc2(ReLU(BN(fc1(mean over H, W)))), with separate weights for each group. Without `norm` there is no BN.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        groups: int,
        hidden: int,
        norm: bool = True,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.groups = groups
        self.fc1 = GroupedLinear(channels // groups, hidden, groups, device=device, dtype=dtype)
        self.norm = BatchNorm2d(groups * hidden, device=device, dtype=dtype) if norm else nn.Identity()
        self.fc2 = GroupedLinear(hidden, outputs, groups, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        styles = self.fc2(torch.relu(self.norm(self.fc1(statistics.mean(x, [2, 3])))))
        return styles.flatten(1).unflatten(1, [self.groups, -1])


def mask_logits(
    channels: int,
    groups: int,
    hidden: int,
    dilation: int = 1,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Sequential:
    """Layers that compute the logits of one spatial mask for each group of channels: (B, groups, H, W).

    They are 1×1 to `hidden` and two dilated 3×3, each with BN and ReLU, then 1×1 to 1, with separate weights for each
    group.
    """
    wide = groups * hidden

    def conv(inputs: int, outputs: int, reach: int = 0) -> nn.Conv2d:
        kernel = 3 if reach else 1
        return nn.Conv2d(
            inputs, outputs, kernel, padding=reach, dilation=max(1, reach), groups=groups, device=device, dtype=dtype
        )

    return nn.Sequential(
        conv(channels, wide),
        BatchNorm2d(wide, device=device, dtype=dtype),
        nn.ReLU(),
        conv(wide, wide, dilation),
        BatchNorm2d(wide, device=device, dtype=dtype),
        nn.ReLU(),
        conv(wide, wide, dilation),
        BatchNorm2d(wide, device=device, dtype=dtype),
        nn.ReLU(),
        conv(wide, groups),
    )


def mixed(styles: Tensor, logits: Tensor, softmax: bool) -> Tensor:
    """1 + Σ m_k·s_k over the groups k, (B, outputs, H, W), in float32 for half precision.

    The weights m_k are sigmoids of the logits divided by their sum plus 1e-6, or their softmax over the groups.
    """
    logits = statistics.upcast(logits)
    if softmax:
        weights = torch.softmax(logits, dim=1)
    else:
        masks = torch.sigmoid(logits)
        weights = masks / (masks.sum(1, keepdim=True) + 1e-6)
    mixture = statistics.matmul(styles.transpose(1, 2), weights.to(styles.dtype).flatten(2))
    return mixture.unflatten(2, [logits.shape[2], logits.shape[3]]) + 1


def halved(groups: int, channels: int) -> int:
    """`groups`, halved until the number divides the channels."""
    while channels % groups:
        groups //= 2
    return groups


@torch.fx.wrap
def pooled(x: Tensor, stride: int) -> Tensor:
    """Means of stride × stride positions, fewer at the right and lower border of odd maps: (B, C, ⌈H/s⌉, ⌈W/s⌉)."""
    return x if stride == 1 else F.avg_pool2d(x, stride, stride, 0, True, False)
