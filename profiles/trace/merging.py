"""The steps of several ranks as one: means of times, sums of counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from profiles.trace.columns import Int64
from profiles.trace.stepwise import StepProfile


def merged(profiles: Sequence[StepProfile]) -> StepProfile:
    """Means over the ranks, step by step; as many steps as all have. Counters that not all have are dropped."""
    first = profiles[0]
    if len(profiles) == 1:
        return first
    steps = min(p.steps for p in profiles)

    def mean(columns: Sequence[Int64 | None]) -> Int64:
        found = [c[:steps] for c in columns if c is not None]
        return np.rint(np.sum(found, axis=0) / len(profiles)).astype(np.int64) if found else np.zeros(steps, np.int64)

    parts = sorted({part for p in profiles for part in p.parts})
    kernels = sorted({name for p in profiles for name in p.kernels})
    counters = [name for name in first.counters if all(name in p.counters for p in profiles)]
    return StepProfile(
        numbers=first.numbers[:steps],
        step_ns=mean([p.step_ns for p in profiles]),
        busy_ns=None if first.busy_ns is None else mean([p.busy_ns for p in profiles]),
        parts={part: mean([p.parts.get(part) for p in profiles]) for part in parts},
        waiting_frac={part: max(p.waiting_frac.get(part, 0.0) for p in profiles) for part in parts},
        kernels={name: mean([p.kernels.get(name) for p in profiles]) for name in kernels},
        counters={
            name: np.sum([p.counters[name][:steps] for p in profiles], axis=0).astype(np.int64) for name in counters
        },
        annotated=all(p.annotated for p in profiles),
    )


def partial_counters(profiles: Sequence[StepProfile]) -> tuple[str, ...]:
    """What some ranks counted and others did not: their sum would be that of fewer ranks."""
    names = dict.fromkeys(name for p in profiles for name in p.counters)
    return tuple(name for name in names if not all(name in p.counters for p in profiles))
