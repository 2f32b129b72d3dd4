"""Stages of a step by the host's clock, without a profiler. No torch.

A profiler costs 1 to 6 us per operator, which falls on stages of many small ones: of a step of 150 us it makes one of
300 to 700. Two readings of the clock per stage cost next to nothing. What the clock cannot see is which stage a
moment of the backward pass belongs to: that split stays the profiler's.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from types import TracebackType

import msgspec

BACKWARD = "backward"
CLOCKED_S, FEWEST, MOST = 0.1, 3, 200
"""The clocked pass takes about so long, but at least and at most so many steps."""


class Clocked(msgspec.Struct, frozen=True, kw_only=True):
    """Means per step in seconds: of the whole step, and of each stage without the stages inside it."""

    step_s: float
    stages: dict[str, float]


class StageClock:
    """Called with a stage's name in place of record_function: adds up the time inside it."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.spent_s: defaultdict[str, float] = defaultdict(float)
        self.inner_s: list[float] = []

    def __call__(self, stage: str) -> _Span:
        """A context manager around one stage."""
        return _Span(self, stage)


class _Span:
    __slots__ = ("_began", "_clock", "_stage")

    def __init__(self, clock: StageClock, stage: str) -> None:
        self._clock, self._stage, self._began = clock, stage, 0.0

    def __enter__(self) -> None:
        self._clock.inner_s.append(0.0)
        self._began = self._clock.now()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        clock = self._clock
        took = clock.now() - self._began
        clock.spent_s[self._stage] += took - clock.inner_s.pop()
        if clock.inner_s:
            clock.inner_s[-1] += took


def clocked(
    step: Callable[[], object],
    annotate: Callable[[StageClock | None], None],
    timed_s: float,
    before: Callable[[], object] | None = None,
) -> Clocked:
    """Run `step` with a clock in its stages (`annotate` puts one in, and None takes it out) for about CLOCKED_S.

    before: called before each step; its time is no part of the step, but of CLOCKED_S.
    """
    clock, prepare = StageClock(), before or _nothing
    annotate(clock)
    before_s = _took(prepare, clock)
    step()
    count = min(max(round(CLOCKED_S / (timed_s + before_s)), FEWEST), MOST)
    clock.spent_s.clear()
    whole_s = 0.0
    for _ in range(count):
        prepare()
        whole_s += _took(step, clock)
    annotate(None)
    return Clocked(step_s=whole_s / count, stages={name: s / count for name, s in clock.spent_s.items()})


def _nothing() -> None:
    pass


def _took(call: Callable[[], object], clock: StageClock) -> float:
    began = clock.now()
    call()
    return clock.now() - began


def joined(found: Clocked, profiled: Mapping[str, tuple[float, float]]) -> tuple[dict[str, tuple[float, float]], float]:
    """(forward and backward seconds per stage, profiled backward over clocked backward; 1 without a backward pass).

    Forward times are clocked; the clocked backward pass is divided as the profiled one was.
    """
    backward_s, traced_s = found.stages.get(BACKWARD, 0.0), sum(b for _, b in profiled.values())
    share = backward_s / traced_s if traced_s else 0.0
    names = dict.fromkeys([*profiled, *found.stages])
    stages = {
        name: (0.0 if name == BACKWARD else found.stages.get(name, 0.0), profiled.get(name, (0.0, 0.0))[1] * share)
        for name in names
    }
    return stages, traced_s / backward_s if backward_s else 1.0
