"""Quantiles, intervals and shape of small samples: numbers in, numbers out. No unit is assumed anywhere.

Intervals of medians are distribution-free: order statistics whose ranks follow from the binomial law. Repeats of a
benchmark drift and so resemble their neighbours; the ranks are moved outwards by sqrt(n / effective n) for that, and by
Student's t where few values remain, beyond the sample itself where that is not enough. How often the result holds is
measured by `python -m tools.coverage` (docs/method/measuring.md).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist, median
from typing import NamedTuple

CONFIDENCE = 0.95
FEWEST = 6
"""Values from which on smallest to largest hold the median with 95 %."""
MAX_DIGITS = 4
OUTLIERS_FRAC = 0.05
OUTLIER_MIN_DISTANCE_FRAC = 0.05
BIMODAL_MIN_VALUES = 12
BIMODAL_MIN_SIDE_FRAC = 0.2
BIMODAL_MIN_GAP_FRAC = 0.6
BIMODAL_MIN_DISTANCE_FRAC = 0.05


class Ratio(NamedTuple):
    """A ratio of two medians and the interval that holds it with at least the asked confidence."""

    value: float
    low: float
    high: float

    @property
    def excludes_one(self) -> bool:
        """Whether the two medians differ beyond the interval."""
        return self.low > 1.0 or self.high < 1.0


def usable(times_s: Sequence[float]) -> bool:
    """Whether there are times, and all are positive numbers."""
    return bool(times_s) and all(math.isfinite(t) and t > 0 for t in times_s)


def quantile(values: Sequence[float], fraction: float) -> float:
    """The `fraction` quantile (0 to 1), interpolated between neighbours as numpy does by default."""
    ordered = sorted(values)
    position = fraction * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def lag1_autocorrelation(values: Sequence[float]) -> float:
    """Correlation of each value with the next one, -1 to 1; 0 where it cannot be told."""
    if len(values) < 3:
        return 0.0
    mean = math.fsum(values) / len(values)
    deviations = [v - mean for v in values]
    total = math.fsum(d * d for d in deviations)
    if total == 0.0:
        return 0.0
    return math.fsum(a * b for a, b in pairwise(deviations)) / total


def ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value, 1 for the smallest; equal values share their mean rank."""
    ordered = sorted(values)
    return [(bisect_left(ordered, v) + bisect_right(ordered, v) + 1) / 2 for v in values]


def effective_size(values: Sequence[float]) -> float:
    """How many independent values say as much of the median: n (1 - r) / (1 + r), from 1 to n.

    r is the lag-1 autocorrelation of the ranks: a median is moved by which side of it values lie on, not by how far
    off they are, so one burst of far outliers must not pass for a sample that is one burst throughout. A short sample
    shows less autocorrelation than there is, by about (1 + 4 r) / n (Kendall 1954), which is put back. Negative
    autocorrelation is taken as none, so that an interval is never narrowed by it; fewer than 6 values tell nothing and
    count in full.
    """
    count = len(values)
    if count < FEWEST or min(values) == max(values):
        return float(count)
    corrected = (count * lag1_autocorrelation(ranks(values)) + 1) / (count - 4)
    correlation = min(max(corrected, 0.0), 0.98)
    return max(1.0, count * (1 - correlation) / (1 + correlation))


def t_over_normal(size: float, confidence: float = CONFIDENCE) -> float:
    """How much wider Student's t of `size` values is than the normal law; 2 degrees of freedom at the least.

    By the expansion in 1 / df (Abramowitz and Stegun 26.7.5), within 4 % of the exact quantile.
    """
    df, z = max(size - 1, 2.0), NormalDist().inv_cdf((1 + confidence) / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return (z + math.fsum(term / df**power for power, term in enumerate(terms, 1))) / z


def median_rank(count: int, confidence: float = CONFIDENCE) -> int:
    """Largest k for which the k-th smallest to the k-th largest of `count` values hold the median with `confidence`.

    0 where even smallest to largest do not (fewer than 6 values at 95 %).
    """
    tail = (1 - confidence) / 2
    total, rank = 0.0, 0
    for k in range(count // 2 + 1):
        total += math.exp(_log_choose(count, k) - count * math.log(2))
        if total > tail:
            break
        rank = k + 1
    return rank


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """(low, high) holding the median with `confidence`, widened for autocorrelation.

    Of fewer than 6 values smallest to largest, which holds the median less surely than 95 % (5 values in 93.75 % of
    samples). Where the ranks asked for lie beyond the sample, its ends are moved outwards in proportion.
    """
    ordered = sorted(values)
    count, size = len(ordered), effective_size(values)
    middle = (count + 1) / 2
    reach = (middle - median_rank(count, confidence)) * math.sqrt(count / size)
    if size < count:
        reach *= t_over_normal(size, confidence)
    rank = max(1, math.floor(middle - reach + 1e-9))
    low, high = ordered[rank - 1], ordered[count - rank]
    beyond = reach / (middle - 1) if count >= FEWEST else 1.0
    return _beyond(low, high, median(ordered), beyond) if beyond > 1 else (low, high)


def _beyond(low: float, high: float, middle: float, factor: float) -> tuple[float, float]:
    """The ends `factor` times as far from the middle, as ratios where all are positive, so that they stay so."""
    if low > 0:
        return middle * (low / middle) ** factor, middle * (high / middle) ** factor
    return middle - (middle - low) * factor, middle + (high - middle) * factor


def half_width_frac(values: Sequence[float]) -> float:
    """Half the width of the median's interval over the median."""
    low, high = median_interval(values)
    return (high - low) / 2 / median(values)


def ratio_of_medians(over: Sequence[float], under: Sequence[float], confidence: float = CONFIDENCE) -> Ratio:
    """median(over) / median(under) of two independent samples of positive values.

    The interval divides opposite ends of the two medians' own intervals, each taken at half the error (Bonferroni),
    so it errs on the wide side.
    """
    each = 1 - (1 - confidence) / 2
    over_low, over_high = median_interval(over, each)
    under_low, under_high = median_interval(under, each)
    return Ratio(median(over) / median(under), over_low / under_high, over_high / under_low)


def spread_frac(values: Sequence[float]) -> float:
    """Interquartile range over the median."""
    return (quantile(values, 0.75) - quantile(values, 0.25)) / median(values)


def outlier_frac(values: Sequence[float]) -> float:
    """Fraction of values further than 3 interquartile ranges outside the quartiles."""
    low, high = quantile(values, 0.25), quantile(values, 0.75)
    reach = 3 * (high - low)
    return sum(v < low - reach or v > high + reach for v in values) / len(values)


def has_outliers(values: Sequence[float]) -> bool:
    """Whether more than one value in twenty, and more than one at all, lies far outside the quartiles.

    Values within 5 % of the median are none, however close together the quartiles lie.
    """
    low, high, middle = quantile(values, 0.25), quantile(values, 0.75), median(values)
    reach = max(3 * (high - low), OUTLIER_MIN_DISTANCE_FRAC * abs(middle))
    far = sum(v < low - reach or v > high + reach for v in values)
    return far > 1 and far > OUTLIERS_FRAC * len(values)


def is_bimodal(values: Sequence[float]) -> bool:
    """Whether the values fall into two groups with empty ground between them.

    True where some split leaves a fifth of the values on either side, the group means lie 5 % of the median apart and
    60 % of that distance is empty. Fewer than 12 values are never called bimodal.
    """
    ordered = sorted(values)
    count = len(ordered)
    if count < BIMODAL_MIN_VALUES:
        return False
    side = max(2, math.ceil(BIMODAL_MIN_SIDE_FRAC * count))
    return any(_parts(ordered, split) for split in range(side, count - side + 1))


def _parts(ordered: Sequence[float], split: int) -> bool:
    lower, upper = ordered[:split], ordered[split:]
    distance = math.fsum(upper) / len(upper) - math.fsum(lower) / len(lower)
    if distance < BIMODAL_MIN_DISTANCE_FRAC * abs(median(ordered)) or distance <= 0:
        return False
    return upper[0] - lower[-1] >= BIMODAL_MIN_GAP_FRAC * distance


def supported_decimals(value: float, low: float, high: float) -> int:
    """Decimals that [low, high] supports: the last one is the first uncertain digit; at most 4 digits in all.

    Negative where digits before the point are uncertain too.
    """
    leading = math.floor(math.log10(abs(value))) if value else 0
    most = MAX_DIGITS - 1 - leading
    half = (high - low) / 2
    if not math.isfinite(half) or half <= 0:
        return most
    return max(min(-math.floor(math.log10(half)), most), -leading)


def significant(value: float, low: float, high: float) -> str:
    """`value` with the digits that its interval supports: significant(4.1234, 4.05, 4.21) = '4.12'."""
    if not math.isfinite(value):
        return "-"
    decimals = supported_decimals(value, low, high)
    return f"{round(value, decimals):.{max(decimals, 0)}f}"
