"""Numbers as JSON gives them: `is_finite_number`."""

import math


def is_finite_number(value: object) -> bool:
    """Whether a value is a number that float64 can hold; true and false are none, and JSON has integers beyond it."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False
