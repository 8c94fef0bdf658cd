"""GE: Gather-Excite, arXiv 1810.12348: GE-θ⁻ without parameters, GE-θ that convolves, GE-θ⁺ with a mlp."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.attention import Attention
from sase_attn.attentions.layers import Pointwise
from sase_attn.channel_axes import Axes
from sase_attn.ops.arguments import positive, reduced_channels
from sase_attn.ops.layers import BatchNorm2d
from sase_attn.ops.op import zero_


class GEThetaMinus(Attention):
    """y = x·sigmoid(mean of x over the neighbourhood, resized to H, W by nearest neighbours).

    Parameters: `0`; MACs: `0`. Goes after the last norm of a residual branch.

    Args:
        channels: C.
        extent: e: at every e-th position, the mean over (2e − 1)² positions, fewer at the borders. None: the whole map.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    never_constant = "it has no parameters"

    def __init__(
        self,
        channels: int,
        extent: int | None = None,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        self.extent = 0 if extent is None else positive("extent", extent)

    def attend(self, x: Tensor) -> Tensor:
        if self.extent == 0:
            return (x * torch.sigmoid(statistics.mean(x, [2, 3]))).to(x.dtype)
        e = self.extent
        gathered = F.avg_pool2d(x, 2 * e - 1, stride=e, padding=e - 1, count_include_pad=False)
        return x * torch.sigmoid(F.interpolate(gathered, size=[x.shape[2], x.shape[3]], mode="nearest"))


class _Global(nn.Module):
    """A depthwise convolution over the whole map, with weights stored at a reference size."""

    def __init__(self, channels: int, size: int, device: torch.device | None, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, size, size, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight as torch's own convolutions do."""
        size = self.weight.shape[1]
        nn.init.uniform_(self.weight, -1 / size, 1 / size)

    def forward(self, x: Tensor) -> Tensor:
        x = statistics.upcast(x)
        weight = F.interpolate(self.weight.to(x.dtype)[None], size=[x.shape[2], x.shape[3]], mode="bilinear")
        positions = self.weight.shape[1] * self.weight.shape[2] / (x.shape[2] * x.shape[3])
        return (x * weight).sum([2, 3], keepdim=True) * positions


class GETheta(Attention):
    """y = x·sigmoid(depthwise convolutions of x, resized to H, W by nearest neighbours).

    Parameters: `C*s*s + 2*C` (extent e: `11*C` for each of log₂e steps); MACs: `0` (`9*C` for each position of a
    step's output); s = 7. Goes after the last norm of a residual branch.

    Gathering over the whole map (extent None) is one convolution of the map's size and a batch norm. Over an extent e,
    it is log₂e 3×3 convolutions of stride 2, each with a batch norm, with ReLUs between. Deviation: weights for the
    whole map are stored at a reference size `size`, then resized bilinearly and scaled to the same sum. This is exact
    at the reference size, and works at every other.

    Args:
        channels: C.
        extent: e, a power of two from 2; None is the whole map.
        size: reference height and width of the weights over the whole map.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    def __init__(
        self,
        channels: int,
        extent: int | None = None,
        size: int = 7,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        if extent is not None and (positive("extent", extent) < 2 or extent & (extent - 1)):
            raise ValueError(f"extent must be None or a power of two from 2, got {extent}")
        layers: list[nn.Module] = []
        if extent is None:
            layers = [_Global(channels, positive("size", size), device, dtype)]
            layers.append(BatchNorm2d(channels, device=device, dtype=dtype))
        else:
            for step in range(int(math.log2(extent))):
                layers += [nn.ReLU()] * (step > 0)
                layers.append(
                    nn.Conv2d(channels, channels, 3, 2, 1, groups=channels, bias=False, device=device, dtype=dtype)
                )
                layers.append(BatchNorm2d(channels, device=device, dtype=dtype))
        self.gather = nn.Sequential(*layers)

    def attend(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.excite(self.gather(x)))
        return (x * F.interpolate(gate, size=[x.shape[2], x.shape[3]], mode="nearest")).to(x.dtype)

    def excite(self, gathered: Tensor) -> Tensor:
        """The layers between the gathered map and the sigmoid: here none."""
        return gathered

    def zero_gates(self) -> float:
        zero_(self.gather[-1])
        return 0.5

    def channel_axes(self) -> dict[str, Axes]:
        return {"gather": 0}


class GEThetaPlus(GETheta):
    """`GETheta` with a mlp before the sigmoid: 1×1 C→h, ReLU, 1×1 h→C, with biases.

    Parameters: `C*s*s + 2*C + 2*C*h + h + C`; MACs: `2*C*h`; s = 7, h = C/16. Goes after the last norm of a residual
    branch.

    Args:
        channels: C.
        extent: e, a power of two from 2; None is the whole map.
        size: reference height and width of the weights over the whole map.
        rd_ratio: hidden width relative to C.
        rd_channels: that width itself; overrides `rd_ratio`.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    def __init__(
        self,
        channels: int,
        extent: int | None = None,
        size: int = 7,
        rd_ratio: float = 1 / 16,
        rd_channels: int | None = None,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, extent, size, device=device, dtype=dtype)
        hidden = reduced_channels(channels, rd_ratio, rd_channels)
        self.fc1 = Pointwise(channels, hidden, device=device, dtype=dtype)
        self.fc2 = Pointwise(hidden, channels, device=device, dtype=dtype)

    def excite(self, gathered: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.fc1(gathered)))

    def zero_gates(self) -> float:
        zero_(self.fc2)
        return 0.5

    def channel_axes(self) -> dict[str, Axes]:
        return super().channel_axes() | {"fc1.weight": 1, "fc2": 0}
