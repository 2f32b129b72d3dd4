"""Stages of a profiled pass that was unlike the timed steps, or that beat their roof, are never told as right."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bench import metrics
from bench.plots import stages as plot
from bench.records import Record, StageTime
from bench.reporting.cases import case_row
from bench.reporting.verdict import largest_stage
from bench.stage_doubts import beats_roof, unlike
from tests import sample_records

MACHINE = sample_records.machine()


def profiled(ratio: float, **changes: Any) -> Record:
    """A sample record whose profiled step took `ratio` times the timed one."""
    found = sample_records.records()[0]
    assert found.trace is not None
    trace = msgspec.structs.replace(found.trace, overhead_ratio=ratio, **changes)
    return msgspec.structs.replace(found, trace=trace)


@pytest.mark.parametrize(("ratio", "doubted"), [(0.79, True), (0.8, False), (1.0, False), (1.25, False), (1.94, True)])
def test_a_pass_stands_for_the_timed_steps_only_where_it_is_like_them(ratio: float, doubted: bool) -> None:
    assert (unlike(profiled(ratio)) is not None) == doubted


def test_clocked_stages_count_whatever_the_profiler_cost() -> None:
    whole_s = profiled(1.0).trace.stages_step_s  # type: ignore[union-attr]
    assert unlike(profiled(1.94, step_s=1.94 * whole_s, clocked_step_s=whole_s)) is None
    slow = unlike(profiled(1.94, step_s=1.94 * whole_s, clocked_step_s=1.5 * whole_s))
    assert "clocked step took 1.50 times" in str(slow)
    backward = unlike(profiled(1.94, step_s=1.94 * whole_s, clocked_step_s=whole_s, backward_ratio=1.6))
    assert "backward pass took 1.60 times" in str(backward)


def test_device_times_are_not_stretched_by_the_profiler_and_no_trace_is_no_doubt() -> None:
    assert unlike(profiled(1.94, clock="device")) is None
    assert unlike(msgspec.structs.replace(profiled(1.0), trace=None)) is None


def test_nothing_is_scaled_from_a_pass_unlike_the_timed_steps() -> None:
    found = metrics.stages(profiled(1.94), MACHINE)["embedding"]
    assert found["share_frac"] > 0
    assert (found["forward_s"], found["backward_s"], found["fraction_of_roof"]) == (None, None, None)
    assert "1.94 times the timed one" in found["doubt"]
    values = metrics.compute(profiled(1.94), MACHINE)
    assert [values[name] for name in values if name.startswith("embedding_")] == [None] * sum(
        name.startswith("embedding_") for name in values
    )
    assert metrics.compute(profiled(1.1), MACHINE)["embedding_compulsory_bytes_per_s"] is not None


def test_reports_leave_its_stages_out_and_say_so() -> None:
    good, bad = profiled(1.0), profiled(1.94)
    assert largest_stage(good, MACHINE) is not None
    assert largest_stage(bad, MACHINE) is None
    assert plot.shown([good, bad]) == [good]
    row = case_row(bad, MACHINE, {bad.key: "a case"}, ())
    assert "no stages: seen in steps unlike the timed" in row.flags
    assert row.flags[:-1] == case_row(good, MACHINE, {bad.key: "a case"}, ()).flags


def test_a_stage_faster_than_its_roof_has_no_rate() -> None:
    assert beats_roof(1.1) is None
    assert beats_roof(None) is None
    assert "1.46 times as fast" in str(beats_roof(1.46))
    quick = StageTime(forward_s=1e-9, backward_s=0.0, share_frac=1e-6)
    found = metrics.stages(profiled(1.0, stages={"embedding": quick}), MACHINE)["embedding"]
    assert found["fraction_of_roof"] is None
    assert "roof" in found["doubt"]
    values = metrics.compute(profiled(1.0, stages={"embedding": quick}), MACHINE)
    assert values["embedding_compulsory_bytes_per_s"] is None
