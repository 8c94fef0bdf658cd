"""Arguments of the parts of `sase-attn detect`."""

import argparse


def fraction(text: str) -> float:
    """An argparse type for numbers from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text[:40]!r}") from None
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text[:40]}")
    return value
