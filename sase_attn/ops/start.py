"""Layers that know what they start from, so that `reset_parameters()` gives it back in whatever order it is called.

FSDP and Lightning build a network on the meta device, and then reset every module that owns tensors by itself. What a
block has made of its layers, such as a gate that starts at zero, must therefore be known to the layers.
"""

from torch import nn


class Startable(nn.Module):
    """A layer that is drawn, and then perhaps made something else of by what it is a part of.

    A derived class defines `draw`, and calls `reset_parameters` when it has made its tensors.
    """

    __jit_ignored_attributes__ = ["_start"]

    _start: tuple[str, ...] = ()

    def start(self, how: str) -> None:
        """Call a method of this layer that changes its values in place, now and after every later draw."""
        getattr(self, how)()
        if how not in self._start:
            self._start = (*self._start, how)

    def reset_parameters(self) -> None:
        """Give the layer what it starts from, anew."""
        self.draw()
        for how in self._start:
            getattr(self, how)()

    def draw(self) -> None:
        """Fill every tensor that the layer owns."""
        raise NotImplementedError

    def make_zero(self) -> None:
        """Set all parameters to 0."""
        for parameter in self.parameters(recurse=False):
            nn.init.zeros_(parameter)
