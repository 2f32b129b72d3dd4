"""Stand-ins shared by tests: a clock with seeded noise, and CUDA's events."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.running.clocks import Repeat, Step


class FakeClock:
    """Steps cost what a seeded noise model says; no real time passes.

    `noise` is the relative sd of a repeat, `per_call_s` what the clock itself adds to every repeat, `slow_first` how
    many first steps cost ten times as much.
    """

    name = "fake"

    def __init__(
        self, step_s: float, *, noise: float = 0.0, per_call_s: float = 0.0, slow_first: int = 0, seed: int = 0
    ) -> None:
        self._step_s, self._noise, self._per_call_s, self._slow = step_s, noise, per_call_s, slow_first
        self._random = random.Random(seed)
        self.now_s = 0.0
        self.steps = 0

    def repeat(self, step: Step, inputs: Sequence[Any]) -> Repeat:
        started = self.now_s
        singles = tuple(self._one(step, item) for item in inputs)
        self.now_s += self._per_call_s
        return Repeat(started, self.now_s - started, singles)

    def _one(self, step: Step, item: Any) -> float:
        step(item)
        self.steps += 1
        slow = 10.0 if self.steps <= self._slow else 1.0
        cost = self._step_s * slow * max(0.01, self._random.gauss(1.0, self._noise))
        self.now_s += cost
        return cost


class FakeEvent:
    """A CUDA event: reached when the work queued before it is done, at once on an idle device."""

    def __init__(self, device: FakeCuda) -> None:
        self._device = device
        self.at_ms = -1.0

    def record(self) -> None:
        self.at_ms = self._device.idle_from_ms()

    def elapsed_time(self, end: FakeEvent) -> float:
        if end.at_ms > self._device.finished_ms:
            raise RuntimeError("the event has not been reached: synchronise first")
        return end.at_ms - self.at_ms


class FakeCuda:
    """Work is queued by `launch`, begins no sooner than the host queues it, and is known done only at `synchronize`.

    `now_ms` is the host's clock, on which the device's runs too.
    """

    def __init__(self, now_ms: Callable[[], float] = lambda: time.perf_counter() * 1e3) -> None:
        self._now_ms = now_ms
        self.queued_ms = self.finished_ms = 0.0
        self.synchronized = 0

    def idle_from_ms(self) -> float:
        """When the device has done what is queued."""
        return max(self.queued_ms, self._now_ms())

    def Event(self, enable_timing: bool) -> FakeEvent:
        if not enable_timing:
            raise ValueError("timing is needed")
        return FakeEvent(self)

    def launch(self, cost_ms: float) -> None:
        self.queued_ms = self.idle_from_ms() + cost_ms

    def synchronize(self) -> None:
        self.synchronized += 1
        self.finished_ms = self.idle_from_ms()
