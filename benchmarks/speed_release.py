"""The searched block computed as plainly as in the authors' release, as a baseline for the speed of this package.

It is written from the formulas of arXiv 2411.08333 as the release interprets them (github.com/pusheng0902/SASE), in
torch's operations, step by step: every product, power and sum is a separate map. Whether the release pools with just
these functions is not known. With the weights of a `SASEBlock` it computes the same, if L4 neither overflows nor is 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sase_attn import SASEBlock


class ReleaseBlock(nn.Module):
    """y = x·(A_c + A_s)/2 + x with the weights of a block of the genotype "sase"; (B, C, H, W) in and out."""

    def __init__(self, block: SASEBlock) -> None:
        super().__init__()
        channels, hidden = block.channels, len(block.channel_excite.get_parameter("fc1.weight"))
        self.mixer = nn.Conv2d(2, 1, 1, bias=False)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))
        self.first = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.second = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.mix = nn.Conv2d(2, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(1)
        names = ["mixer.weight", "fc1.weight", "fc2.weight", "scale", "shift", "first.weight", "second.weight"]
        names += ["mix.weight", *(f"norm.{name}" for name in self.norm.state_dict())]
        weight = block.mix.weight
        self.to(weight.device, weight.dtype).train(block.training)
        self.load_state_dict(dict(zip(names, block.state_dict().values(), strict=True)))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels = x.shape[:2]
        pools = [pool(x, 1).reshape(batch, 1, channels, 1) for pool in (F.adaptive_avg_pool2d, F.adaptive_max_pool2d)]
        squeezed = torch.relu(self.mixer(torch.cat(pools, 1))).reshape(batch, channels, 1, 1)
        channel = self.fc2(torch.relu(self.fc1(squeezed)))
        attended = x * torch.sigmoid(self.scale * squeezed + self.shift)
        squeezes = [attended.pow(4).sum(1, keepdim=True).pow(1 / 4), x.mean(1, keepdim=True)]
        position = torch.relu(self.norm(self.mix(torch.cat(squeezes, 1))))
        position = torch.sigmoid(self.second(torch.relu(self.first(position))))
        return x * (channel + position) / 2 + x


def as_release(network: nn.Module) -> nn.Module:
    """The network with every `SASEBlock`, which may be the network itself, replaced by a `ReleaseBlock`."""
    if isinstance(network, SASEBlock):
        return ReleaseBlock(network)
    for parent in network.modules():
        for name, child in parent.named_children():
            if isinstance(child, SASEBlock):
                setattr(parent, name, ReleaseBlock(child))
    return network
