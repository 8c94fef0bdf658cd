"""Kendall's τ-b, the rank correlation of two rankings: 1 for the same order, −1 for the opposite one."""

from collections.abc import Sequence


def kendall(first: Sequence[float], second: Sequence[float]) -> tuple[float, float] | tuple[None, None]:
    """τ-b and its p-value; both are None if τ-b is not defined: for fewer than two values, or all equal ones.

    Raises:
        ImportError: scipy is not installed.
    """
    try:
        from scipy.stats import kendalltau
    except ImportError:
        raise ImportError('rank correlations need scipy: pip install "sase-attn[search]"') from None
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None, None
    found = kendalltau(first, second)
    tau = float(found.statistic)
    return (None, None) if tau != tau else (tau, float(found.pvalue))
