"""Quantiles of scipy's distributions, with a cache. scipy is only imported when needed."""

from functools import cache
from types import ModuleType


def stats() -> ModuleType:
    """The module `scipy.stats`. Raises ImportError, which says what to install."""
    try:
        from scipy import stats
    except ImportError:
        raise ImportError('asking for a signal needs scipy: pip install "sase-attn[search]"') from None
    return stats


@cache
def quantile(name: str, p: float, *freedom: int) -> float:
    """The p-quantile of the distribution "f", "t" or "chi2" with these degrees of freedom."""
    return float(getattr(stats(), name).ppf(p, *freedom))


@cache
def beyond(name: str, p: float, *freedom: int) -> float:
    """The value that such a variable exceeds with probability p. This is exact for small p, too."""
    return float(getattr(stats(), name).isf(p, *freedom))
