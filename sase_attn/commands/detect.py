"""`sase-attn detect`: train and use object detectors. Each of its parts has its own module, `detect_*.py`."""

from typing import Any

from sase_attn.commands import (
    detect_data,
    detect_evaluate,
    detect_export,
    detect_import,
    detect_predict,
    detect_train,
)

PARTS = (detect_train, detect_evaluate, detect_predict, detect_data, detect_export, detect_import)


def add_parser(commands: Any) -> None:
    """Add `detect` with its parts to the subparsers of `sase-attn`."""
    text = "Find objects in images, with boxes or masks: train on annotated images, evaluate, predict."
    parts = commands.add_parser("detect", help=text, description=text, allow_abbrev=False).add_subparsers(
        dest="part", metavar="PART", required=True
    )
    for part in PARTS:
        part.add_parser(parts)
