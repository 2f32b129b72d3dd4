"""The statistics of a pytest-benchmark file, by its definitions, from the seconds per iteration of each round. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from statistics import fmean, median, stdev
from typing import Any

FENCE = 1.5


def round_stats(data: Sequence[float]) -> dict[str, Any]:
    """min to total, and the rounds themselves as `data`. Raises ValueError where there is no round."""
    if not data:
        raise ValueError("at least one round is needed")
    ordered, total = sorted(data), sum(data)
    mean, spread = fmean(data), stdev(data) if len(data) > 1 else 0.0
    q1, q3 = _quarter(ordered), -_quarter([-x for x in reversed(ordered)])
    low, high = q1 - FENCE * (q3 - q1), q3 + FENCE * (q3 - q1)
    beyond = sum(x < mean - spread or x > mean + spread for x in data)
    outside = sum(x < low or x > high for x in data)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": spread,
        "rounds": len(data),
        "median": median(data),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": outside,
        "stddev_outliers": beyond,
        "outliers": f"{beyond};{outside}",
        "ld15iqr": ordered[bisect_left(ordered, low)],
        "hd15iqr": ordered[bisect_right(ordered, high) - 1],
        "ops": len(data) / total if total else 0,
        "total": total,
        "data": list(data),
    }


def _quarter(ordered: Sequence[float]) -> float:
    """The lower quartile: of an even number the median of the half, of an odd one between the two nearest."""
    count = len(ordered)
    if count == 1:
        return ordered[0]
    if count % 2 == 0:
        return median(ordered[: count // 2])
    n, rest = divmod(count, 4)
    if rest == 1:
        return 0.25 * ordered[n - 1] + 0.75 * ordered[n]
    return 0.75 * ordered[n] + 0.25 * ordered[n + 1]
