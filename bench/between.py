"""How far two processes that measure the same case differ, beyond the repeats within one. Pure.

Repeats of one process share its memory layout, its moment and its neighbours, so that no statistic of theirs can tell
what another process would have found. A sweep therefore measures some of its cases again at its end, in processes of
their own; the differences of those pairs are the scale of what two runs, or two backends, may differ by for no reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist, median
from typing import NamedTuple

from bench.plan import Planned
from bench.records import Limits, Record
from bench.stats import CONFIDENCE, Ratio, t_over_normal, usable

LEAST_PAIRS = 3
FEWEST_CASES = 6
"""A sweep of fewer cases measures none again: three pairs would be half of it."""
EVERY = 5
LONG = 2.0
"""Cases that would take more than this many times the median are not measured again."""


class Between(NamedTuple):
    """Root mean square of the log ratios of two processes' median step times, and how many pairs it is of."""

    scale: float
    pairs: int

    @property
    def reach(self) -> float:
        """Half width of the 95 % interval of one such log ratio: Student's t with as many degrees as pairs."""
        return NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * t_over_normal(self.pairs + 1) * self.scale

    @property
    def frac(self) -> float:
        """How much longer one process may take than another by chance, as a fraction (95 %)."""
        return math.expm1(self.reach)


def chosen(planned: Sequence[Planned], limits: Limits) -> list[Planned]:
    """The cases that a sweep measures again: evenly spread over those that can run and do not take very long."""
    running = [p for p in planned if p.skip_reason is None]
    if len(running) < FEWEST_CASES or not limits.remeasured:
        return []
    longest_s = LONG * median(p.estimate_s for p in running)
    usable = [p for p in running if p.estimate_s <= longest_s]
    number = min(limits.remeasured, max(LEAST_PAIRS, len(running) // EVERY), len(usable))
    return [usable[(2 * n + 1) * len(usable) // (2 * number)] for n in range(number)]


def log_ratios(records: Iterable[Record], again: Iterable[Record]) -> list[float]:
    """Second process over first, of every case that both measured well."""
    first = {r.key: median(r.measurement.times_s) for r in records if _timed(r) and r.measurement}
    return [
        math.log(median(r.measurement.times_s) / first[r.key])
        for r in again
        if _timed(r) and r.measurement and r.key in first
    ]


def _timed(record: Record) -> bool:
    return record.outcome.status == "ok" and record.measurement is not None and usable(record.measurement.times_s)


def between(ratios: Sequence[float]) -> Between | None:
    """Of log ratios of one run or of several; None of fewer than three, which bound nothing."""
    if len(ratios) < LEAST_PAIRS:
        return None
    return Between(math.sqrt(math.fsum(r * r for r in ratios) / len(ratios)), len(ratios))


def widened(ratio: Ratio, found: Between | None) -> Ratio:
    """The interval of a ratio of two processes' medians, with what differs between processes added in quadrature.

    Errs on the wide side: the pairs' differences hold what repeats within a process scatter by too.
    """
    if found is None:
        return ratio
    return Ratio(ratio.value, *_wider(ratio.value, ratio.low, ratio.high, found.reach))


def widened_median(middle: float, ends: tuple[float, float], found: Between | None) -> tuple[float, float]:
    """The interval of one process's median, wide enough for the median of all processes of the case.

    One process lies from that by what two differ by, over the root of two.
    """
    return ends if found is None else _wider(middle, *ends, found.reach / math.sqrt(2))


def _wider(value: float, low: float, high: float, reach: float) -> tuple[float, float]:
    """Both ends further out by log distances in quadrature; as they are where they are no interval of times."""
    if not 0 < low <= value <= high < math.inf:
        return low, high
    below, above = math.hypot(math.log(value / low), reach), math.hypot(math.log(high / value), reach)
    return value * math.exp(-below), value * math.exp(above)
