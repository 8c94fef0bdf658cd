"""`ChannelAxes`: the base class of modules that say which axes of their parameters run over the channels of the map."""

from collections.abc import Mapping

from torch import nn

Axes = int | tuple[int, ...]
"""The axes of a parameter that run over the channels."""


class ChannelAxes(nn.Module):
    """A module from which `sase_attn.pruning` can remove channels."""

    def channel_axes(self) -> Mapping[str, Axes] | None:
        """The axes that run over the channels, by the name of a parameter or of a layer; None if they are not known.

        Under the name of a layer, the axes are those of all its parameters and buffers. Submodules that have such a
        method are left out: they answer for themselves.
        """
        return None if next(self.parameters(), None) is not None else {}

    def channel_groups(self) -> int:
        """The number of equal groups that the channels fall into; every group must lose the same channels."""
        return 1
