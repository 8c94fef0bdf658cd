"""`Startable`: layers that remember how they were started, so that `reset_parameters()` restores it in any order.

FSDP and Lightning build a network on the meta device, and then reset every module that owns tensors on its own. So a
change that a block makes to its layers, such as a gate that starts at zero, must be remembered by the layers.
"""

from torch import nn


class Startable(nn.Module):
    """A layer whose initial values are drawn, and may then be changed by the module that it is a part of.

    A derived class defines `draw`, and calls `reset_parameters` at the end of its constructor.
    """

    __jit_ignored_attributes__ = ["_start"]

    _start: tuple[str, ...] = ()

    def start(self, how: str) -> None:
        """Call the method `how`, which changes the layer's values in place, now and after every later draw."""
        getattr(self, how)()
        self._start = (*(one for one in self._start if one != how), how)  # in the order of the last calls

    def reset_parameters(self) -> None:
        """Draw the layer's values anew, and repeat the changes that `start` has made."""
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
