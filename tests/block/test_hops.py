"""How far an eager call of the block is from its arithmetic: a reader should be able to follow it."""

import sys
from pathlib import Path

import torch

import sase_attn
from sase_attn import SASEBlock

PACKAGE = str(Path(sase_attn.__file__).parent)


def test_calls_of_one_eager_call():
    """At most 120 Python calls of ours in 14 files; the map has two pieces."""
    block, x = SASEBlock(256), torch.randn(2, 256, 56, 56)
    block(x)  # imports what is imported at the first call, and fills caches
    called: list[str] = []

    def note(frame, event, arg):
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            called.append(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        block(x)
    finally:
        sys.setprofile(None)
    assert 0 < len(called) <= 120
    assert len(set(called)) <= 14
