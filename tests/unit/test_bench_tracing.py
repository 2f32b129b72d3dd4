"""What the profiled pass says of the timed steps."""

from __future__ import annotations

import msgspec
import pytest

from bench.records import TraceSummary
from bench.running.tracing import trace_flags

TRACE = TraceSummary(path="traces/a.json.gz", steps=3, step_s=0.02, overhead_ratio=2.0, stages={}, coverage_frac=1.0)


@pytest.mark.parametrize(
    ("busy_s", "flags"), [(0.002, ("host_bound",)), (0.008, ("host_bound",)), (0.009, ()), (0.0, ()), (None, ())]
)
def test_a_timed_step_far_longer_than_the_device_works_is_bound_by_the_host(
    busy_s: float | None, flags: tuple[str, ...]
) -> None:
    trace = msgspec.structs.replace(TRACE, clock="device", device_busy_s=busy_s)
    assert trace_flags(trace, (0.010, 0.050, 0.001)) == flags


def test_without_a_trace_nothing_is_said_of_the_host() -> None:
    assert trace_flags(None, (0.010,)) == ()
