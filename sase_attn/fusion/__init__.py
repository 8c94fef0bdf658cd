"""Residual blocks with attention in few passes over memory: `fuse` and `unfuse`."""

from sase_attn.fusion.fuse import fuse as fuse
from sase_attn.fusion.fuse import unfuse as unfuse
