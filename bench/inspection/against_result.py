"""What a comparison of two traces says, as data. Times in microseconds, changes as fractions."""

from __future__ import annotations

import msgspec

from bench.errors import Exit


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One part. Times are medians per step; the change and its interval are fractions, 0.05 is 5 % longer.

    `all` is the sum of the parts, `step (wall)` the step on the host, `idle` what of it the step's GPU work leaves.
    status: regression, improvement, no change, undecided, new, gone, not judged, not comparable.
    """

    component: str
    phase: str
    baseline_us: float
    candidate_us: float
    change_frac: float | None
    low_frac: float | None
    high_frac: float | None
    least_effect_frac: float | None
    status: str
    reason: str


class Counter(msgspec.Struct, frozen=True, kw_only=True):
    """One count per step. status: equal, more, fewer, overlapping (steps differ among themselves), undecided (no step
    of one side counts what one of the other does, and the steps are too few to tell whether that is chance).
    """

    name: str
    baseline: tuple[int, ...]
    candidate: tuple[int, ...]
    status: str


class KernelChange(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel's medians per step, to explain a part; not judged."""

    name: str
    baseline_us: float
    candidate_us: float


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared."""

    files: tuple[str, ...]
    devices: tuple[str, ...]
    world_size: int | None
    steps: tuple[int, ...]
    step_us: float
    """Median wall time of a step on the host; the row `step (wall)` judges it."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """`status` is the worst of rows and counters. `reasons` say why sides are not comparable, what could not be
    decided, or what was left out.
    """

    status: str
    reasons: tuple[str, ...]
    baseline: Side
    candidate: Side
    rows: tuple[Row, ...]
    counters: tuple[Counter, ...]
    kernels: tuple[KernelChange, ...]

    @property
    def exit(self) -> Exit:
        """The exit code that says it."""
        if self.status == "not comparable":
            return Exit.NOT_COMPARABLE
        return Exit.REGRESSION if self.status == "regression" else Exit.OK
