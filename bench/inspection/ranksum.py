"""Two small samples compared by ranks: their shift and its exact interval, whatever the distribution.

Hodges-Lehmann: the median of all differences. Interval: inverted Mann-Whitney test, exact for independent steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import comb, sqrt
from statistics import NormalDist, median
from typing import NamedTuple

_MOST_EXACT = 40
"""Samples together; beyond, the normal approximation of the rank sum is good to a rank."""


class Shift(NamedTuple):
    """Of the second sample against the first. `low`, `high` are None where no interval of that level exists."""

    estimate: float
    low: float | None
    high: float | None


@lru_cache(maxsize=256)
def _counts(n: int, m: int) -> tuple[int, ...]:
    """How many orders of n + m values have each number of pairs in which the second sample's value is smaller."""
    if not n or not m:
        return (1,)
    with_last, without = _counts(n - 1, m), _counts(n, m - 1)
    counts = [0] * (n * m + 1)
    for at, count in enumerate(with_last):
        counts[at + m] += count
    for at, count in enumerate(without):
        counts[at] += count
    return tuple(counts)


def least_p(n: int, m: int) -> float:
    """The smallest two-sided probability that samples of these sizes can show."""
    return min(1.0, 2 / comb(n + m, n)) if n and m else 1.0


def _left_out(n: int, m: int, alpha: float) -> int | None:
    """How many of the sorted differences lie outside the interval on each side, None if even none are too many."""
    if n + m > _MOST_EXACT:
        z = NormalDist().inv_cdf(1 - alpha / 2)
        return max(int(n * m / 2 - z * sqrt(n * m * (n + m + 1) / 12)), 0)
    total, below = comb(n + m, n), 0
    for left_out, count in enumerate(_counts(n, m)):
        below += count
        if 2 * below > alpha * total:
            return left_out - 1 if left_out else None
    return None


def shift(first: Sequence[float], second: Sequence[float], alpha: float) -> Shift:
    """The shift and its interval of level 1 - alpha. ValueError for an empty sample."""
    if not first or not second:
        raise ValueError("both samples need a value")
    differences = sorted(b - a for a in first for b in second)
    skip = _left_out(len(first), len(second), alpha)
    if skip is None:
        return Shift(median(differences), None, None)
    return Shift(median(differences), differences[skip], differences[len(differences) - 1 - skip])
