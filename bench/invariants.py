"""What no honest measurement can be: faster than its roof or one launch, empty, not a number."""

from __future__ import annotations

import math

from bench.metrics import step_s
from bench.records import Record
from bench.roofs import ROOF_TOLERANCE, bound_step_s, ceilings_of
from profiles.machine import Ceilings, Machine


def violations(record: Record, machine: Machine) -> list[str]:
    """Invariants that the record breaks, as sentences; a broken one means the number cannot be right."""
    found = record.measurement
    if found is None:
        return []
    if not found.times_s:
        return ["no repeat was measured"]
    if not all(math.isfinite(t) and t > 0 for t in found.times_s):
        return ["a repeat's step time is not a positive finite number"]
    return [text for text in (_beats_roof(record, machine), _beats_launch(record, machine)) if text]


def _beats_roof(record: Record, machine: Machine) -> str | None:
    least, seconds = bound_step_s(record, machine), step_s(record)
    if not least or not seconds or least <= ROOF_TOLERANCE * seconds:
        return None
    return (
        f"the step is {least / seconds:.2f} times as fast as the measured ceilings allow (tolerance {ROOF_TOLERANCE}): "
        f"the counted work was not done, or {_why_too_low(ceilings_of(record, machine))}"
    )


def _why_too_low(ceilings: Ceilings | None) -> str:
    if ceilings and ceilings.disturbed:
        return (
            f"the ceilings are too low, since others took {ceilings.other_load_frac:.0%} of the CPU time while they "
            "were measured: run again on a machine that does nothing else"
        )
    return "the ceilings are stale (dlrm-bench machine --refresh)"


def _beats_launch(record: Record, machine: Machine) -> str | None:
    ceilings, seconds = ceilings_of(record, machine), step_s(record)
    floor = ceilings.launch_latency.seconds if ceilings and ceilings.launch_latency else None
    if not floor or not seconds or seconds >= floor or not record.case.device.startswith("cuda"):
        return None
    return f"the step takes {seconds * 1e6:.2f} us, less than one kernel launch ({floor * 1e6:.2f} us)"
