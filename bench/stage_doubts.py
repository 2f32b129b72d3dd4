"""What of a profiled pass stands for no timed step: a pass unlike them, and stages faster than their roof."""

from __future__ import annotations

from bench.records import Record
from bench.roofs import ROOF_TOLERANCE

LIKE_TIMED = (0.8, 1.25)
"""Profiled step over timed step, within which shares of the one are taken for shares of the other."""


def unlike(record: Record) -> str | None:
    """Why the stages of the profiled step say nothing of the timed one; None where they do, or without a trace.

    What the profiler costs falls on small operators and not on large ones, and a slower pass has other causes too
    (memory faulted in, other load): one factor cannot take either out. Kernels of a GPU last as long with it.
    """
    trace = record.trace
    if trace is None or trace.clock == "device" or LIKE_TIMED[0] <= trace.overhead_ratio <= LIKE_TIMED[1]:
        return None
    return (
        f"the profiled step took {trace.overhead_ratio:.2f} times the timed one (within {LIKE_TIMED[0]} and "
        f"{LIKE_TIMED[1]} it stands for it): shares are of the profiled step, and no time or rate is taken from them"
    )


def beats_roof(fraction: float | None) -> str | None:
    """Why a fraction of a roof cannot be right; None where it can."""
    if fraction is None or fraction <= ROOF_TOLERANCE:
        return None
    return (
        f"{fraction:.2f} times as fast as its measured roof allows (tolerance {ROOF_TOLERANCE}): operands came from a "
        "cache, or the roof or the pass was measured beside other load; no rate to quote"
    )
