"""The line every output opens with: what is missing, damaged or unknown in a trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from bench.inspection.result import Quality
from profiles.trace.breakdown import DeviceTimes
from profiles.trace.columns import NONE, Category, Trace
from profiles.trace.copies import Copies
from profiles.trace.launching import Launches
from profiles.trace.links import forward_rows, mixed_correlations
from profiles.trace.windows import Step, missing_steps

MOST_STEPS = 5


def assess(
    trace: Trace,
    steps: tuple[Step, ...],
    launches: Launches,
    devices: Sequence[DeviceTimes],
    copies: Sequence[Copies],
) -> Quality:
    """The faults of the whole trace, whatever window is looked at."""
    read = trace.quality
    numbers = Quality(
        line="",
        events=read.events,
        events_timed=len(trace),
        events_repaired=read.events_repaired,
        events_lost=read.events_lost,
        times_missing=read.times_missing,
        times_negative=read.times_negative,
        times_absurd=read.times_absurd,
        truncated=read.truncated,
        file_damage=read.file_damage,
        metadata_lost=read.metadata_lost,
        gpu_events=sum(d.events for d in devices),
        mixed_correlations=len(mixed_correlations(trace)),
        kernels_without_launch=launches.work_without_launch,
        launches_without_kernel=launches.launches_without_work,
        stream_overlaps=sum(s.overlapping for d in devices for s in d.streams.values()),
        copies_bytes_unknown=sum(c.bytes_unknown for c in copies),
        steps=tuple(s.number for s in steps),
        steps_missing=missing_steps(steps),
        backward_without_forward=_without_forward(trace),
    )
    return msgspec.structs.replace(numbers, line=sentence(numbers))


def _without_forward(trace: Trace) -> int:
    """Backward ops whose forward op is not in the trace: the first step of a window, or sampled events."""
    ops = trace.rows(Category.CPU_OP)
    backward = ops[(trace.forward_thread[ops] > 0) & (trace.sequence[ops] != NONE)]
    return int(np.count_nonzero(forward_rows(trace, backward) == NONE))


def sentence(q: Quality) -> str:
    """One line: how much was read, then every fault that was found."""
    gpu = f"{q.gpu_events:,} of them GPU work" if q.gpu_events else "no GPU work"
    steps = _count(len(q.steps), "step") if q.steps else "no annotated steps"
    found = list(faults(q))
    return f"{_count(q.events, 'event')}, {gpu}, {steps}; " + ("; ".join(found) if found else "no faults found")


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def faults(q: Quality) -> Iterator[str]:
    """Each fault in words."""
    yield from _reading_faults(q)
    if not q.events_timed:
        yield "nothing with a duration was recorded"
    if q.mixed_correlations:
        yield (
            f"several processes in one file, with {_count(q.mixed_correlations, 'correlation')} in common, so these "
            "launches are unknown: inspect each process in a file of its own"
        )
    if q.kernels_without_launch:
        yield f"{_count(q.kernels_without_launch, 'GPU event')} without a launch"
    if q.launches_without_kernel:
        yield f"{_count(q.launches_without_kernel, 'launch call')} without GPU work"
    if q.stream_overlaps:
        yield f"{_count(q.stream_overlaps, 'GPU event')} begin before the one before on the stream has ended"
    if q.copies_bytes_unknown:
        yield f"{_count(q.copies_bytes_unknown, 'copy or memset event')} of unknown size"
    if q.steps_missing:
        more = ", ..." if len(q.steps_missing) > MOST_STEPS else ""
        yield f"steps missing: {', '.join(map(str, q.steps_missing[:MOST_STEPS]))}{more}"
    if q.backward_without_forward:
        yield f"{_count(q.backward_without_forward, 'backward op')} without the forward op (sampled, or begun before)"


def _reading_faults(q: Quality) -> Iterator[str]:
    if q.truncated:
        yield f"TRUNCATED: {q.truncated}"
    if q.file_damage:
        yield f"after the events: {q.file_damage}"
    if q.events_lost:
        yield f"{_count(q.events_lost, 'event')} could not be read"
    if q.events_repaired:
        yield f"{_count(q.events_repaired, 'damaged event')} mended"
    if q.metadata_lost:
        yield "metadata could not be read"
    unusable = {"no usable": q.times_missing, "a negative": q.times_negative, "an absurd": q.times_absurd}
    for word, count in unusable.items():
        if count:
            yield f"{_count(count, 'event')} with {word} time or duration left out"
