"""GLAM: All the attention you need: global-local, spatial-channel attention for image retrieval, arXiv 2107.08000."""

import math

import torch
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.attention import Attention
from sase_attn.channel_axes import Axes
from sase_attn.ops.arguments import odd, positive
from sase_attn.ops.layers import Filter


class GLAM(Attention):
    """y = w₀·local + w₁·global + w₂·x, the weights a softmax of three learned numbers that start equal.

    Local: F = x·a_c + x, then F·a_s + F; a_c is ECA's gate, a_s the sigmoid of a 1×1 convolution of [r, d₁, d₂, d₃],
    r = 1×1 C→h of x, dᵢ = 3×3 convolution of r with dilation i.
    Global: F = x·G_c + x, then F·G_s + F; G_c mixes the channels of x by the softmax of kᵀq over k, where q and k are
    sigmoids of convolutions along C of the means; G_s is non-local attention over positions with h channels.

    Parameters: `3 + 3*k + 5*C*h + C + 7*h + 27*h*h + 4*h + 1`; MACs: `3*C*k + C*C + C*C*N + N*(5*C*h + 27*h*h + 4*h)
    + 2*N*N*h`; h = C/4, k ECA's adaptive size, N = H·W. Goes once after the last stage of a retrieval network.

    No official code was found; this is written from the paper's formulas. Public ports differ in whether the
    convolutions along C have biases (here they have none), and whether the local spatial map has a sigmoid (here it
    has). Memory grows with C² and (H·W)² per image.

    Args:
        channels: C.
        rd_channels: h; C/4 where None.
        kernel_size: k, odd; ECA's adaptive size where None.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    never_constant = "its global branch mixes channels and positions by a softmax, whatever its parameters"

    def __init__(
        self,
        channels: int,
        rd_channels: int | None = None,
        kernel_size: int | None = None,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        hidden = max(1, channels // 4) if rd_channels is None else positive("rd_channels", rd_channels)
        if kernel_size is None:
            kernel_size = max(int(abs(math.log2(channels) + 1) / 2) // 2 * 2 + 1, 3)
        odd("kernel_size", kernel_size)

        def conv(inputs: int, outputs: int, dilation: int = 0) -> nn.Conv2d:
            kernel = 3 if dilation else 1
            return nn.Conv2d(
                inputs, outputs, kernel, padding=dilation, dilation=max(1, dilation), device=device, dtype=dtype
            )

        self.weights = nn.Parameter(torch.empty(3, device=device, dtype=dtype))
        self.reset_parameters()
        self.local_conv = Filter(1, 1, kernel_size, device=device, dtype=dtype)
        self.query_conv = Filter(1, 1, kernel_size, device=device, dtype=dtype)
        self.key_conv = Filter(1, 1, kernel_size, device=device, dtype=dtype)
        self.reduce = conv(channels, hidden)
        self.dilated1 = conv(hidden, hidden, 1)
        self.dilated2 = conv(hidden, hidden, 2)
        self.dilated3 = conv(hidden, hidden, 3)
        self.mix = conv(4 * hidden, 1)
        self.query = conv(channels, hidden)
        self.key = conv(channels, hidden)
        self.value = conv(channels, hidden)
        self.expand = conv(hidden, channels)

    def reset_parameters(self) -> None:
        """Start with equal weights of the three terms."""
        nn.init.zeros_(self.weights)

    def attend(self, x: Tensor) -> Tensor:
        means = statistics.mean(x, [2, 3]).flatten(1)[:, None]
        local = self._local(x, torch.sigmoid(self.local_conv(means))[:, 0, :, None, None].to(x.dtype))
        query, key = torch.sigmoid(self.query_conv(means)), torch.sigmoid(self.key_conv(means))
        weights = torch.softmax(statistics.upcast(self.weights), dim=0).to(x.dtype)
        return weights[0] * local + weights[1] * self._global(x, query, key) + weights[2] * x

    def _local(self, x: Tensor, channel: Tensor) -> Tensor:
        reduced = self.reduce(x)
        scales = [reduced, self.dilated1(reduced), self.dilated2(reduced), self.dilated3(reduced)]
        y = x * channel + x
        return y * torch.sigmoid(self.mix(torch.cat(scales, dim=1))) + y

    def _global(self, x: Tensor, query: Tensor, key: Tensor) -> Tensor:
        flat = statistics.upcast(x).flatten(2)
        between = torch.softmax(statistics.matmul(key.transpose(1, 2), query), dim=1)  # over keys: (B, key, query)
        mixed = statistics.matmul(between.transpose(1, 2), flat).view_as(x).to(x.dtype)
        y = x * mixed + x
        near, far = statistics.upcast(self.query(x)).flatten(2), statistics.upcast(self.key(x)).flatten(2)
        between = torch.softmax(statistics.matmul(far.transpose(1, 2), near), dim=1)
        spread = statistics.matmul(statistics.upcast(self.value(x)).flatten(2), between)
        spread = spread.unflatten(2, [x.shape[2], x.shape[3]]).to(x.dtype)
        return y * self.expand(spread) + y

    def channel_axes(self) -> dict[str, Axes]:
        return {"reduce.weight": 1, "query.weight": 1, "key.weight": 1, "value.weight": 1, "expand": 0}
