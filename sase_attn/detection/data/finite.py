"""`is_finite_number`: check numbers that were read from JSON."""

import math


def is_finite_number(value: object) -> bool:
    """Whether a value is a number that float64 can hold. Booleans are none, and integers in JSON may be too large."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False
