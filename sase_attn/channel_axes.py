"""`ChannelAxes`: a module that says which axes of its parameters are over the channels of its map."""

from collections.abc import Mapping

from torch import nn

Axes = int | tuple[int, ...]
"""The axes of a parameter that are over the channels."""


class ChannelAxes(nn.Module):
    """A module that `sase_attn.pruning` can take channels away from."""

    def channel_axes(self) -> Mapping[str, Axes] | None:
        """Which axes of its parameters are over the channels.

        By the names of parameters, or of layers, all of whose parameters and buffers have the axis. Modules inside that
        have such a method speak for themselves. None where it is not known.
        """
        return None if next(self.parameters(), None) is not None else {}

    def channel_groups(self) -> int:
        """Groups of equal size that the channels fall into; all groups lose the same channels."""
        return 1
