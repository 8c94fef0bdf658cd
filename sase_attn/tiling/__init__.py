"""Tiled squeeze-and-excite (arXiv 2107.02145): the module, conversion of networks, and the memory that it saves."""

from sase_attn.tiling.block import TiledSE as TiledSE
from sase_attn.tiling.convert import Tiling as Tiling
from sase_attn.tiling.convert import tile as tile
from sase_attn.tiling.measure import buffering as buffering
from sase_attn.tiling.report import PRECISIONS as PRECISIONS
from sase_attn.tiling.report import BlockBuffer as BlockBuffer
from sase_attn.tiling.report import BufferingReport as BufferingReport
