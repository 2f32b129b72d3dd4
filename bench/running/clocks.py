"""Clocks: one repeat of steps in, its durations out. The host clock, and CUDA events beside the host clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol

import msgspec

Step = Callable[[Any], object]


class Repeat(msgspec.Struct, frozen=True):
    """Durations of one repeat: wall time of all steps, time between device events around them, single steps (may be
    empty).

    `started_s` is on the host's monotonic clock.
    """

    started_s: float
    wall_s: float
    step_times_s: tuple[float, ...]
    event_s: float | None = None


class Clock(Protocol):
    """Times one repeat: `step` is called once on each of `inputs`, back to back."""

    name: str

    def repeat(self, step: Step, inputs: Sequence[Any]) -> Repeat:
        """Run `step` on every input and say how long it took."""
        ...


class HostClock:
    """perf_counter_ns around every step; a time stamp costs about 50 ns, so single steps come for free."""

    name = "perf_counter_ns"

    def repeat(self, step: Step, inputs: Sequence[Any]) -> Repeat:
        """Run `step` on every input; the repeat's wall time is from the first start to the last end."""
        now = time.perf_counter_ns
        stamps = [now()] * (len(inputs) + 1)
        stamps[0] = now()
        for position, item in enumerate(inputs, 1):
            step(item)
            stamps[position] = now()
        singles = tuple((b - a) * 1e-9 for a, b in pairwise(stamps))
        return Repeat(stamps[0] * 1e-9, (stamps[-1] - stamps[0]) * 1e-9, singles)


class CudaClock:
    """A pair of CUDA events around the steps with the host's clock beside it, and one synchronisation per repeat.

    `cuda` is torch.cuda or a stand-in with Event and synchronize. The first event is reached at once, on an idle
    stream, so the time between the two holds the gaps that the host leaves between launches. Single steps are not
    synchronised, so their latency is measured by repeats of one step.
    """

    name = "cuda_event"

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda

    def repeat(self, step: Step, inputs: Sequence[Any]) -> Repeat:
        """Run `step` on every input; wall time ends when the device has finished."""
        start, end = (self._cuda.Event(enable_timing=True) for _ in range(2))
        self._cuda.synchronize()
        began = time.perf_counter_ns()
        start.record()
        for item in inputs:
            step(item)
        end.record()
        self._cuda.synchronize()
        wall_s = (time.perf_counter_ns() - began) * 1e-9
        singles = (wall_s,) if len(inputs) == 1 else ()
        return Repeat(began * 1e-9, wall_s, singles, start.elapsed_time(end) * 1e-3)
