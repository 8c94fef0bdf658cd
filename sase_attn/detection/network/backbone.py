"""`PyramidBackbone`: the backbone of the detectors, a network of timm with torchvision's feature pyramid."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool


class PyramidBackbone(nn.Module):
    """Returns maps named "0" to "3" and "pool", all of one width, from the four feature maps of a network.

    Args:
        body: the network, which returns a list of four maps, at strides 4, 8, 16 and 32 of the image.
        widths: channels of these maps.
        out_channels: channels of the pyramid.
        channels_last: whether the body's maps are (B, H, W, C).
    """

    def __init__(self, body: nn.Module, widths: Sequence[int], out_channels: int, *, channels_last: bool) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(list(widths), out_channels, LastLevelMaxPool())
        self.out_channels = out_channels
        self.channels_last = channels_last
        self.kept_in_eval: frozenset[str] = frozenset()  # names of modules of the body that `train` leaves in eval mode

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.body(images)
        if self.channels_last:
            maps = [each.permute(0, 3, 1, 2).contiguous() for each in maps]
        pyramid: dict[str, Tensor] = self.fpn(OrderedDict((str(level), each) for level, each in enumerate(maps)))
        return pyramid

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules except frozen ones, which stay in eval mode."""
        super().train(mode)
        for name, module in self.body.named_modules():
            if name in self.kept_in_eval:
                module.eval()
        return self
