"""`Attached`: a layer of a network with attention behind it."""

from typing import Any

from torch import Tensor, nn

from sase_attn.attention import scale_words
from sase_attn.scaled import Scaled


class Attached(Scaled):
    """A layer of a network, `host`, followed by an attention, `attn`, and a factor if the attention has no `scale`.

    `constant` says whether the attention started as a constant gain, and does so again when it is reset.

    The attention gets the mode of the layer, train or eval. Attributes that a network has set on the layer, such as its
    place in the graph, can be read here too, except its tensors and submodules.
    """

    def __init__(self, host: nn.Module, attn: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.training = host.training
        self.host = host
        self.attn = attn.train(host.training)
        self.scale = scale
        self.constant = False

    def reset_parameters(self) -> None:
        """Start the attention as a constant gain again if it did before; to be called once its layers are drawn."""
        if self.constant:
            self.attn.zero_gates()  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        y = self.attn(self.host(x))
        return y if self.scale == 1 else y * self.scale

    def extra_repr(self) -> str:
        return scale_words(self.scale).removeprefix(", ")

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            host = self.__dict__.get("_modules", {}).get("host")
            if host is None or name.startswith("_"):
                raise
            if name in vars(host):
                return vars(host)[name]
            if name in host._parameters or name in host._buffers:
                kind = type(host).__name__
                raise AttributeError(
                    f"Attached has no {name!r}, which is that of its host, a {kind}: to fold that into another layer "
                    f"would lose the attention; attach it behind the module that holds both"
                ) from error
            raise
