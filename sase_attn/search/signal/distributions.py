"""Quantiles of scipy's distributions. scipy is imported when needed, and what it gave is kept."""

from functools import cache
from types import ModuleType


def stats() -> ModuleType:
    """`scipy.stats`. Raises ImportError, with what to install."""
    try:
        from scipy import stats
    except ImportError:
        raise ImportError('asking for a signal needs scipy: pip install "sase-attn[search]"') from None
    return stats


@cache
def quantile(name: str, p: float, *freedom: int) -> float:
    """What a variable of "f", "t" or "chi2" with these degrees of freedom stays below with probability p."""
    return float(getattr(stats(), name).ppf(p, *freedom))


@cache
def beyond(name: str, p: float, *freedom: int) -> float:
    """What it exceeds with probability p, exact for small p."""
    return float(getattr(stats(), name).isf(p, *freedom))
