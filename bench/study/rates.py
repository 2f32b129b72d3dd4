"""Which learning rate to try next: from the middle of a grid outwards, until a rate on either side is worse. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def next_rate(grid: Sequence[float], tried: Mapping[float, float | None]) -> float | None:
    """A neighbour of the best rate so far that was not tried yet, None where there is none.

    tried: log loss of each rate that was trained with, None where it diverged. Loss against the logarithm of the rate
    is taken to have one valley, so what lies beyond a worse neighbour is never trained. Where all have diverged the
    next lower rate is tried, then any other.
    """
    rates = sorted(set(grid))
    if not tried:
        return rates[(len(rates) - 1) // 2]
    finite = {rate: loss for rate, loss in tried.items() if loss is not None and math.isfinite(loss)}
    if not finite:
        left = [rate for rate in rates if rate not in tried]
        lower = [rate for rate in left if rate < min(tried)]
        return max(lower) if lower else min(left, default=None)
    best = rates.index(min(finite, key=lambda rate: finite[rate]))
    # Upwards first: one pass is short, and larger rates win more often than not.
    beside = (*rates[best + 1 : best + 2], *rates[max(best - 1, 0) : best])
    return next((rate for rate in beside if rate not in tried), None)
