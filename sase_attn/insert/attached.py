"""`Attached`: a layer of a network with attention behind it."""

from torch import Tensor, nn

from sase_attn.attention import scale_words
from sase_attn.scaled import Scaled


class Attached(Scaled):
    """A layer of a network, `host`, followed by an attention, `attn`, and a factor where that has no `scale`."""

    def __init__(self, host: nn.Module, attn: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.training = host.training
        self.host = host
        self.attn = attn
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        y = self.attn(self.host(x))
        return y if self.scale == 1 else y * self.scale

    def extra_repr(self) -> str:
        return scale_words(self.scale).removeprefix(", ")
