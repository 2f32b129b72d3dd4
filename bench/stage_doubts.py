"""What of a profiled pass stands for no timed step: a pass unlike them, and stages faster than their roof."""

from __future__ import annotations

from bench.records import Record
from bench.roofs import ROOF_TOLERANCE

LIKE_TIMED = (0.8, 1.25)
"""Step of a pass over timed step, within which shares of the one are taken for shares of the other."""


def unlike(record: Record) -> str | None:
    """Why the stages that were seen say nothing of the timed step; None where they do, or without a trace.

    What the profiler costs falls on small operators and not on large ones, and a slower pass has other causes too
    (memory faulted in, other load): one factor cannot take either out. Kernels of a GPU last as long with it.
    """
    trace = record.trace
    if trace is None or trace.clock == "device":
        return None
    seen = "profiled" if trace.clocked_step_s is None else "clocked"
    ratio = trace.overhead_ratio * trace.stages_step_s / trace.step_s if trace.step_s else 0.0
    if not _alike(ratio):
        return _unlike(f"the {seen} step took {ratio:.2f} times the timed one", f"of the {seen} step")
    if not _alike(trace.backward_ratio):
        took = f"the profiled backward pass took {trace.backward_ratio:.2f} times the one without a profiler"
        return _unlike(took, "of the profiled one")
    return None


def _alike(ratio: float) -> bool:
    return LIKE_TIMED[0] <= ratio <= LIKE_TIMED[1]


def _unlike(took: str, whose: str) -> str:
    within = f"{LIKE_TIMED[0]} and {LIKE_TIMED[1]}"
    return f"{took} (within {within} it stands for it): shares are {whose}, and no time or rate is taken from them"


def beats_roof(fraction: float | None) -> str | None:
    """Why a fraction of a roof cannot be right; None where it can."""
    if fraction is None or fraction <= ROOF_TOLERANCE:
        return None
    return (
        f"{fraction:.2f} times as fast as its measured roof allows (tolerance {ROOF_TOLERANCE}): operands came from a "
        "cache, or the roof or the pass was measured beside other load; no rate to quote"
    )
