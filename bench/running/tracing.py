"""The profiled pass of a case: a pass of its own, never a timed step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

from bench.records import Measurement, StageTime, TraceSummary
from bench.running.request import Request
from bench.running.stage_clock import clocked, joined
from workloads.executions import Ready
from workloads.work import STAGES


def trace_case(ready: Ready, inputs: Sequence[Any], request: Request, measurement: Measurement) -> TraceSummary | None:
    """A bounded profiler pass of its own, on inputs the timed steps used too."""
    if request.trace_path is None or not request.limits.trace:
        return None
    from profiles.capture import capture
    from profiles.trace.reader import read_trace
    from profiles.trace.stages import stage_times
    from workloads.layers import annotate_with, set_tracing
    from workloads.steps import TABLE_UPDATE

    path, steps = Path(request.trace_path), request.limits.trace_steps
    feed = cycle(inputs)
    set_tracing(ready.annotated, True)
    capture(lambda: ready.step(next(feed)), path, steps=steps, device=request.case.device)
    set_tracing(ready.annotated, False)
    found = stage_times(read_trace(path), (*STAGES, TABLE_UPDATE, *ready.stages), steps)
    timed_s = sorted(measurement.times_s)[len(measurement.times_s) // 2]
    on_clock = None
    if not found.on_device:
        on_clock = clocked(lambda: ready.step(next(feed)), partial(annotate_with, ready.annotated), timed_s)
    parts, backward_ratio = found.stages, 1.0
    if on_clock is not None and on_clock.stages:
        parts, backward_ratio = joined(on_clock, found.stages)
    else:
        on_clock = None
    # A GPU's kernels last as long under the profiler as without, so their share is of the timed step itself.
    whole_s = timed_s if found.on_device else on_clock.step_s if on_clock else found.step_s
    stages = {
        name: StageTime(forward_s=f, backward_s=b, share_frac=(f + b) / whole_s)
        for name, (f, b) in _with_update(parts).items()
        if f + b > 0
    }
    return TraceSummary(
        path=f"traces/{path.name}",
        steps=steps,
        step_s=found.step_s,
        overhead_ratio=found.step_s / timed_s,
        stages=stages,
        coverage_frac=sum(s.share_frac for s in stages.values()) if on_clock else found.coverage_frac,
        clock="device" if found.on_device else "host",
        clocked_step_s=on_clock.step_s if on_clock else None,
        backward_ratio=backward_ratio,
    )


def _with_update(stages: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """A table update of its own counted into the embedding's backward, where a fused backend does it."""
    from workloads.steps import TABLE_UPDATE

    merged = dict(stages)
    update_s = sum(merged.pop(TABLE_UPDATE, (0.0, 0.0)))
    forward_s, backward_s = merged.get("embedding", (0.0, 0.0))
    return merged | {"embedding": (forward_s, backward_s + update_s)}
