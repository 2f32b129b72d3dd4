"""Timing one step function: warm up until steady, then repeat until the median is known well enough. No torch here."""

from __future__ import annotations

import math
import resource
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from statistics import median
from typing import Any

import msgspec

from bench.records import Limits, Measurement
from bench.running.clocks import Clock, Repeat, Step
from bench.running.stopping import Precision, Warmup
from bench.stats import has_outliers, is_bimodal

MAX_STEP_TIMES = 4_000
"""Single steps kept, evenly spread over the run: enough for a p99, and a record stays below 50 kB."""
MAX_STEPS_PER_REPEAT = 20_000
LONG_REPEAT_S = 0.05
"""No repeat is made longer than this for the sake of its number of steps: long steps launch many kernels each."""
FAULTS_PER_STEP_LIMIT = 1.0
FAULTS_BY_OURSELVES = 100
"""Timing itself keeps lists of time stamps: up to this many faults are not the step's."""


class Usage(msgspec.Struct, frozen=True):
    """What the kernel counted for this process."""

    minor_faults: int
    major_faults: int
    user_s: float
    system_s: float
    involuntary_switches: int
    peak_rss_bytes: int


def usage() -> Usage:
    """The process's counters now (getrusage)."""
    now = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(now.ru_minflt, now.ru_majflt, now.ru_utime, now.ru_stime, now.ru_nivcsw, now.ru_maxrss * 1024)


def measure(
    step: Step,
    inputs: Sequence[Any],
    clock: Clock,
    limits: Limits,
    *,
    min_steps: int = 1,
    between: Callable[[], None] | None = None,
    latency_steps: int = 0,
) -> Measurement:
    """Time `step` on rotated `inputs`.

    min_steps: fewest steps of a repeat where so many take no longer than LONG_REPEAT_S. between: called before every
    single step outside the timed region (cold mode); repeats are then single steps. latency_steps: single steps from
    an empty queue, taken after the repeats where these do not time their steps one by one (at most as long as half the
    time budget).
    Returns raw times and flags; raises what `step` raises.
    """
    feed = cycle(inputs)
    first = clock.repeat(step, list(islice(feed, 1)))
    warmup = _warm(step, feed, clock, limits)
    count = 1 if between else _steps_per_repeat(warmup.times_s, limits, min_steps)
    before = usage()
    repeats, reason = _repeat(step, feed, clock, limits, count, between)
    after = usage()
    singles = [t for r in repeats for t in r.step_times_s] or _singles(step, feed, clock, limits, latency_steps)
    return _summary(first, warmup, repeats, reason, count, clock, before, after, singles)


def _singles(step: Step, feed: cycle[Any], clock: Clock, limits: Limits, most: int) -> list[float]:
    found: list[float] = []
    while len(found) < most and sum(found) < limits.budget_s / 2:
        found.append(clock.repeat(step, list(islice(feed, 1))).wall_s)
    return found


def _warm(step: Step, feed: cycle[Any], clock: Clock, limits: Limits) -> Warmup:
    warmup = Warmup(max_s=max(0.5, limits.budget_s))
    while not warmup.done:
        warmup.add(clock.repeat(step, list(islice(feed, 1))).wall_s)
    return warmup


def _steps_per_repeat(warmup_times_s: Sequence[float], limits: Limits, min_steps: int) -> int:
    typical = median(warmup_times_s[-5:])
    wanted, most = (math.ceil(s / max(typical, 1e-9)) for s in (limits.min_repeat_s, LONG_REPEAT_S))
    return min(max(wanted, min(min_steps, most)), MAX_STEPS_PER_REPEAT)


def _repeat(
    step: Step, feed: cycle[Any], clock: Clock, limits: Limits, count: int, between: Callable[[], None] | None
) -> tuple[list[Repeat], str]:
    stop = Precision(limits)
    repeats: list[Repeat] = []
    while stop.reason is None:
        batch = list(islice(feed, count))
        if between:
            between()
        repeats.append(clock.repeat(step, batch))
        stop.add(repeats[-1].wall_s / count, repeats[-1].wall_s)
    return repeats, stop.reason


def _summary(
    first: Repeat,
    warmup: Warmup,
    repeats: list[Repeat],
    reason: str,
    count: int,
    clock: Clock,
    before: Usage,
    after: Usage,
    singles: Sequence[float],
) -> Measurement:
    times = tuple(r.wall_s / count for r in repeats)
    events = tuple(r.event_s / count for r in repeats if r.event_s is not None)
    faults = after.minor_faults - before.minor_faults
    return Measurement(
        times_s=times,
        steps_per_repeat=count,
        step_times_s=spread_evenly(singles, MAX_STEP_TIMES),
        started_s=tuple(r.started_s - repeats[0].started_s for r in repeats),
        origin_s=repeats[0].started_s,
        clock=clock.name,
        stopped_by=reason,
        warmup_steps=len(warmup.times_s) + 1,
        warmup_times_s=tuple(warmup.times_s),
        first_call_s=first.wall_s,
        event_times_s=events,
        minor_faults=faults,
        major_faults=after.major_faults - before.major_faults,
        user_s=after.user_s - before.user_s,
        system_s=after.system_s - before.system_s,
        involuntary_switches=after.involuntary_switches - before.involuntary_switches,
        peak_rss_bytes=after.peak_rss_bytes,
        flags=_flags(warmup, times, reason, (faults - FAULTS_BY_OURSELVES) / (count * len(repeats))),
    )


def spread_evenly(times_s: Sequence[float], most: int) -> tuple[float, ...]:
    """At most `most` of the times, in order, evenly spread over all of them, to the clock's resolution of 1 ns."""
    stride = max(1, math.ceil(len(times_s) / most))
    return tuple(round(t, 9) for t in times_s[::stride])


def _flags(warmup: Warmup, times: tuple[float, ...], reason: str, faults_per_step: float) -> tuple[str, ...]:
    found = {
        "not_steady": not warmup.steady,
        "imprecise": reason != "precision",
        "page_faults": faults_per_step > FAULTS_PER_STEP_LIMIT,
        "bimodal": is_bimodal(times),
        "outliers": has_outliers(times),
    }
    return tuple(name for name, yes in found.items() if yes)
