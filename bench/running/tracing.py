"""The profiled pass of a case: a pass of its own, never a timed step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.records import Measurement, StageTime, TraceSummary
from bench.running.flush import flush_of
from bench.running.request import Request
from bench.running.stage_clock import StageClock, clocked, joined
from workloads.executions import Ready
from workloads.work import STAGES

if TYPE_CHECKING:
    from profiles.trace.stages import StageTimes

HOST_BOUND_RATIO = 1.2
"""A timed step that lasts more than this many times as long as the device works in it waits for the host."""


def trace_case(ready: Ready, inputs: Sequence[Any], request: Request, measurement: Measurement) -> TraceSummary | None:
    """A bounded profiler pass of its own, on inputs the timed steps used too; a cold case is cold here too."""
    if request.trace_path is None or not request.limits.trace:
        return None
    from profiles.capture import capture
    from profiles.trace.reader import read_trace
    from profiles.trace.stages import stage_times
    from workloads.layers import annotate_with, set_tracing
    from workloads.steps import TABLE_UPDATE

    path, steps = Path(request.trace_path), request.limits.trace_steps
    feed, flush = cycle(inputs), flush_of(request)
    set_tracing(ready.annotated, True)
    capture(lambda: ready.step(next(feed)), path, steps=steps, device=request.case.device, before=flush)
    set_tracing(ready.annotated, False)
    found = stage_times(read_trace(path), (*STAGES, TABLE_UPDATE, *ready.stages), steps)
    timed_s = sorted(measurement.times_s)[len(measurement.times_s) // 2]
    seen = None
    if request.case.device == "cpu":
        annotate = partial(annotate_with, ready.annotated)
        seen = _on_clock(lambda: ready.step(next(feed)), annotate, timed_s, found, flush)
    return _summary(path, found, seen or _profiled(found, timed_s), timed_s)


class _Seen(NamedTuple):
    """Seconds per stage, forward and backward, of steps of `whole_s`; see TraceSummary for the rest."""

    parts: Mapping[str, tuple[float, float]]
    whole_s: float
    coverage_frac: float
    clocked_step_s: float | None = None
    backward_ratio: float = 1.0


def _profiled(found: StageTimes, timed_s: float) -> _Seen:
    """As profiled. A GPU's kernels last as long under the profiler as without: their share is of the timed step."""
    return _Seen(found.stages, timed_s if found.on_device else found.step_s, found.coverage_frac)


def _on_clock(
    step: Callable[[], object],
    annotate: Callable[[StageClock | None], None],
    timed_s: float,
    found: StageTimes,
    before: Callable[[], object] | None,
) -> _Seen | None:
    """By the host's clock; None for a step that names no stages to it."""
    on_clock = clocked(step, annotate, timed_s, before)
    if not on_clock.stages:
        return None
    parts, backward_ratio = joined(on_clock, found.stages)
    covered = sum(on_clock.stages.values()) / on_clock.step_s
    return _Seen(parts, on_clock.step_s, covered, on_clock.step_s, backward_ratio)


def _summary(path: Path, found: StageTimes, seen: _Seen, timed_s: float) -> TraceSummary:
    stages = {
        name: StageTime(forward_s=f, backward_s=b, share_frac=(f + b) / seen.whole_s)
        for name, (f, b) in _with_update(seen.parts).items()
        if f + b > 0
    }
    return TraceSummary(
        path=f"traces/{path.name}",
        steps=found.steps,
        step_s=found.step_s,
        overhead_ratio=found.step_s / timed_s,
        stages=stages,
        coverage_frac=seen.coverage_frac,
        clock="device" if found.on_device else "host",
        clocked_step_s=seen.clocked_step_s,
        backward_ratio=seen.backward_ratio,
        device_busy_s=found.busy_s,
    )


def trace_flags(trace: TraceSummary | None, times_s: Sequence[float]) -> tuple[str, ...]:
    """host_bound where the timed step is far longer than the device works in a step; none where no trace tells.

    GPU work lasts as long under the profiler as without, while the host is slower under it: so the device's time is
    taken from the profiled pass and the whole from the timed one.
    """
    if trace is None or not trace.device_busy_s:
        return ()
    return ("host_bound",) if median(times_s) / trace.device_busy_s > HOST_BOUND_RATIO else ()


def _with_update(stages: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """A table update of its own counted into the embedding's backward, where a fused backend does it."""
    from workloads.steps import TABLE_UPDATE

    merged = dict(stages)
    update_s = sum(merged.pop(TABLE_UPDATE, (0.0, 0.0)))
    forward_s, backward_s = merged.get("embedding", (0.0, 0.0))
    return merged | {"embedding": (forward_s, backward_s + update_s)}
