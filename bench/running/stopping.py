"""When to stop warming up and when to stop measuring: plain state machines fed with seconds."""

from __future__ import annotations

from statistics import median

from bench.records import Limits
from bench.stats import FEWEST, median_interval

STEADY_WINDOW = 5
STEADY_CHANGE_FRAC = 0.03
WARMUP_MIN_STEPS = 3
CONFIRM = 1.25
"""A narrow interval counts once this many times as many repeats have been taken and it is narrow still."""


class Warmup:
    """Warm until two consecutive 5-step medians differ by under 3 %, after at least 3 steps; capped.

    `done` once steady or capped; `steady` says which. The cap is in steps and seconds, whichever comes first, but
    never before two windows are full.
    """

    def __init__(self, max_steps: int = 200, max_s: float = 2.0) -> None:
        self._max_steps, self._max_s = max_steps, max_s
        self.times_s: list[float] = []
        self.steady = False

    def add(self, step_s: float) -> None:
        """Take the duration of one more warm-up step."""
        self.times_s.append(step_s)
        recent = self.times_s[WARMUP_MIN_STEPS:]
        if len(recent) >= 2 * STEADY_WINDOW:
            before = median(recent[-2 * STEADY_WINDOW : -STEADY_WINDOW])
            after = median(recent[-STEADY_WINDOW:])
            self.steady = abs(after - before) < STEADY_CHANGE_FRAC * before

    @property
    def done(self) -> bool:
        """Whether measuring may start."""
        if self.steady:
            return True
        enough = len(self.times_s) >= WARMUP_MIN_STEPS + 2 * STEADY_WINDOW
        return enough and (len(self.times_s) >= self._max_steps or sum(self.times_s) >= self._max_s)


class Precision:
    """Stop when the 95 % interval of the median is within the asked width, or the budget or the repeats run out.

    The width is the half width over the median. It must still be narrow enough after a quarter more repeats: whoever
    stops at the first narrow look stops in calm spells, and too early. The budget ends nothing before 6 repeats
    (`min_repeats` where fewer were asked for), which the interval needs, however long they take. `reason` is None while
    more is needed, else precision, time_budget or max_repeats.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.times_s: list[float] = []
        self._elapsed_s = 0.0
        self._narrow_since: int | None = None
        self.reason: str | None = None

    def add(self, step_s: float, elapsed_s: float) -> None:
        """Take one more repeat: its mean step time and the wall time it took."""
        self.times_s.append(step_s)
        self._elapsed_s += elapsed_s
        self.reason = self._decide()

    def _decide(self) -> str | None:
        limits = self._limits
        if self._confirmed():
            return "precision"
        if len(self.times_s) >= limits.max_repeats:
            return "max_repeats"
        enough = len(self.times_s) >= min(FEWEST, limits.min_repeats)
        return "time_budget" if enough and self._elapsed_s >= limits.budget_s else None

    def _confirmed(self) -> bool:
        """Whether the interval is narrow and has been so for a quarter of the repeats before."""
        count, limits = len(self.times_s), self._limits
        if count < limits.min_repeats or self._half_width_frac() > limits.precision_frac:
            self._narrow_since = None
            return False
        self._narrow_since = self._narrow_since or count
        return count >= CONFIRM * self._narrow_since

    def _half_width_frac(self) -> float:
        low, high = median_interval(self.times_s)
        return (high - low) / 2 / median(self.times_s)
