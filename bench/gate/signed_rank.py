"""The one-sided Wilcoxon signed-rank test, exact; Hodges-Lehmann's estimate and the interval that inverts the test.

Numbers in, numbers out. Under "no change" each difference has a random sign given its size, because the labels were
drawn at random: every one of the 2**n sign patterns is equally likely, whatever the noise. Ties share their mean rank
and the table is counted for exactly these ranks; zeros are dropped, since a sign tells nothing of them. Only above 512
differences, which no single run has, the normal law stands for the table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist, median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_EXACT = 512
"""Differences whose table is counted: its cost grows with their cube. One run has at most 64 epochs a stage."""


class Tails(NamedTuple):
    """P(a sum of positive ranks at least as large, at least as small as the one seen)."""

    greater: float
    less: float


def tails(differences: Sequence[float]) -> Tails:
    """One-sided p-values of the differences; (1, 1) where all are zero.

    Exact up to 512 differences. Above, as of many runs put together, by the normal law: at 512 less than 1 % off where
    p is 0.01 to 0.1, and too large, not too small, below.
    """
    signed = [d for d in differences if d != 0]
    ranks = doubled_ranks([abs(d) for d in signed])
    positive = sum(rank for rank, d in zip(ranks, signed, strict=True) if d > 0)
    if len(signed) > MAX_EXACT:
        return normal_tails(ranks, positive)
    counts = rank_sum_counts(tuple(sorted(ranks)))
    patterns = 2 ** len(signed)
    return Tails(sum(counts[positive:]) / patterns, sum(counts[: positive + 1]) / patterns)


def normal_tails(ranks: Sequence[int], positive: int) -> Tails:
    """The tails by the normal law. The variance is that of these very ranks, so that it allows for ties."""
    sd = math.sqrt(sum(rank * rank for rank in ranks)) / 2
    # Sums are this far apart at least: half of it is the correction for a law without steps.
    half_step = math.gcd(*ranks) / 2
    above = positive - sum(ranks) / 2
    return Tails(_beyond((above - half_step) / sd), _beyond((-above - half_step) / sd))


def _beyond(z: float) -> float:
    """P(a standard normal variable is at least z), precise far out too."""
    return math.erfc(z / math.sqrt(2)) / 2


def doubled_ranks(sizes: Sequence[float]) -> list[int]:
    """Twice the midrank of each value, a whole number: [3.0, 1.0, 1.0] -> [6, 3, 3]."""
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])
    ranks = [0] * len(sizes)
    begin = 0
    while begin < len(order):
        end = begin
        while end < len(order) and sizes[order[end]] == sizes[order[begin]]:
            end += 1
        for place in order[begin:end]:
            ranks[place] = begin + end + 1
        begin = end
    return ranks


@lru_cache(maxsize=256)
def rank_sum_counts(ranks: tuple[int, ...]) -> tuple[int, ...]:
    """counts[w]: how many sign patterns give a sum w of the ranks that are positive."""
    counts = [1] + [0] * sum(ranks)
    reached = 0
    for rank in ranks:
        for total in range(reached, -1, -1):
            counts[total + rank] += counts[total]
        reached += rank
    return tuple(counts)


def plain_counts(n: int) -> tuple[int, ...]:
    """The table without ties: counts[w] patterns of ranks 1..n sum to w."""
    return rank_sum_counts(tuple(range(1, n + 1)))


def walsh_averages(differences: Sequence[float]) -> list[float]:
    """Means of all pairs, each value with itself too, in order."""
    return sorted((a + b) / 2 for i, a in enumerate(differences) for b in differences[i:])


def hodges_lehmann(differences: Sequence[float]) -> float:
    """Median of the Walsh averages: where the differences are centred, robustly."""
    return median(walsh_averages(differences))


def interval(differences: Sequence[float], confidence: float) -> tuple[float, float]:
    """(low, high): the shifts that the two-sided test does not reject; infinite where n is too small to reject any."""
    outside = outside_rank(len(differences), confidence)
    if outside < 0:
        return -math.inf, math.inf
    averages = walsh_averages(differences)
    return averages[outside], averages[len(averages) - 1 - outside]


@lru_cache(maxsize=256)
def outside_rank(n: int, confidence: float) -> int:
    """Rank, from 0, of the Walsh average that bounds the interval from below (above: from the end); -1: unbounded.

    By the normal law where `tails` goes by it.
    """
    if n > MAX_EXACT:
        return normal_outside_rank(n, confidence)
    allowed = math.floor((1 - confidence) / 2 * 2**n)
    below, outside = -1, 0
    for w, count in enumerate(plain_counts(n)):
        outside += count
        if outside > allowed:
            break
        below = w
    return below


def normal_outside_rank(n: int, confidence: float) -> int:
    """The same by the normal law: the largest sum of ranks 1..n whose lower tail is within what may lie outside."""
    sd = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    return max(-1, math.floor(n * (n + 1) / 4 - 0.5 + NormalDist().inv_cdf((1 - confidence) / 2) * sd))


def tails_of_rows(differences: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(greater, less) of every row of (cases, n) without ties or zeros: many cases at once, for simulation."""
    n = differences.shape[1]
    ranks = np.abs(differences).argsort(axis=1).argsort(axis=1) + 1
    positive = (ranks * (differences > 0)).sum(axis=1)
    counts = np.array([float(c) for c in plain_counts(n)]) / 2.0**n
    return counts[::-1].cumsum()[::-1][positive], counts.cumsum()[positive]


def hodges_lehmann_of_rows(differences: NDArray[Any]) -> NDArray[Any]:
    """Hodges-Lehmann of every row."""
    first, second = np.triu_indices(differences.shape[1])
    estimate: NDArray[Any] = np.median((differences[:, first] + differences[:, second]) / 2, axis=1)
    return estimate


def upper_bounds_of_rows(differences: NDArray[Any], confidence: float) -> NDArray[Any]:
    """Upper end of every row's interval; infinite where n is too small."""
    outside = outside_rank(differences.shape[1], confidence)
    if outside < 0:
        return np.full(len(differences), math.inf)
    first, second = np.triu_indices(differences.shape[1])
    averages = (differences[:, first] + differences[:, second]) / 2
    place = averages.shape[1] - 1 - outside
    bounds: NDArray[Any] = np.partition(averages, place, axis=1)[:, place]
    return bounds
