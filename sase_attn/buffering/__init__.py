"""What a chip that streams maps must hold while squeeze-and-excitation waits for its mean."""

from sase_attn.buffering.measure import buffering as buffering
from sase_attn.buffering.report import PRECISIONS as PRECISIONS
from sase_attn.buffering.report import BlockBuffer as BlockBuffer
from sase_attn.buffering.report import BufferingReport as BufferingReport
