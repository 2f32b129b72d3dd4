"""Best rates over kernels, tries and rounds. No torch here: a timer is passed in, so that tests can fake it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from profiles.machine import Ceiling

Call = Callable[[], object]
Timer = Callable[[Sequence[Call]], float]
"""Runs these calls back to back and returns the seconds that all of them took."""
Progress = Callable[[str, float], None]

# A kernel this far behind the best of its cell after the first round is not tried again.
_HOPELESS_FRAC = 0.75


@dataclass(frozen=True)
class Kernel:
    """One way to do `work` bytes or FLOPs. `prepare` runs untimed and returns the call to time.

    With `fresh` every timed call is prepared anew (random indices must not repeat), `burst` of them per timing;
    otherwise one prepared call is repeated until a timing lasts long enough. Kernels of one `family` are one routine on
    several sizes.
    """

    name: str
    work: float
    prepare: Callable[[], Call]
    fresh: bool = False
    burst: int = 1
    family: str = ""


@dataclass
class Cell:
    """One number to find: the best rate over `kernels`, inside the context `around` (thread count, tf32)."""

    label: str
    kernels: Sequence[Kernel]
    working_set_bytes: int | None = None
    row_bytes: int | None = None
    threads: int | None = None
    around: Callable[[], AbstractContextManager[object]] = nullcontext
    flops: bool = False
    rates: dict[str, list[float]] = field(default_factory=dict)

    def best_rate(self) -> float:
        """The highest rate seen so far, 0 before the first try."""
        return max((max(r) for r in self.rates.values()), default=0.0)

    def likely_rate(self, kernel: Kernel) -> float:
        """What this kernel may reach: what its family did, else the best of the cell; 0 where nothing is known."""
        own = [max(self.rates[k.name]) for k in self.kernels if k.family == kernel.family and k.name in self.rates]
        return max(own, default=0.0) or self.best_rate()

    def alive(self) -> list[Kernel]:
        """The kernels worth another try."""
        bar = self.best_rate() * _HOPELESS_FRAC
        return [k for k in self.kernels if k.name not in self.rates or max(self.rates[k.name]) >= bar]

    def ceiling(self) -> Ceiling:
        """The best kernel's best rate. ValueError where nothing was measured."""
        if not self.rates:
            raise ValueError(f"no kernel ran for {self.label}")
        name = max(self.rates, key=lambda n: max(self.rates[n]))
        best = max(self.rates[name])
        return Ceiling(
            kernel=name,
            source="measured",
            spread_frac=(best - statistics.median(self.rates[name])) / best,
            bytes_per_s=None if self.flops else best,
            flops_per_s=best if self.flops else None,
            working_set_bytes=self.working_set_bytes,
            row_bytes=self.row_bytes,
            threads=self.threads,
        )


@dataclass(frozen=True)
class Pace:
    """How long to try: rounds over all cells, seconds per timing, the longest call worth waiting for.

    A call longer than `long_call_s` is tried once a round.
    """

    rounds: int = 6
    tries: int = 2
    min_timing_s: float = 0.01
    max_call_s: float = 0.6
    long_call_s: float = 0.04
    max_calls: int = 1000


class Deadline:
    """A moment on a monotonic clock; `now` can be faked."""

    def __init__(self, budget_s: float, now: Callable[[], float] = time.perf_counter) -> None:
        """Start counting `budget_s` seconds."""
        self._now = now
        self._start = now()
        self.budget_s = budget_s

    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self._now() - self._start

    def passed(self) -> bool:
        """Whether the budget is spent."""
        return self.elapsed_s() >= self.budget_s


def run_cells(cells: Sequence[Cell], timer: Timer, pace: Pace, deadline: Deadline, progress: Progress) -> int:
    """Try every cell in every round, so that its tries lie apart in time; return the rounds completed.

    Past the deadline no further round starts or goes on, but in the first one every cell still gets one try: a
    ceiling is late rather than missing.
    """
    for number in range(pace.rounds):
        for at, cell in enumerate(cells):
            if number and deadline.passed():
                return number
            progress(cell.label, (number + at / len(cells)) / pace.rounds)
            run_cell(cell, timer, pace, hurry=deadline.passed())
    return pace.rounds


def run_cell(cell: Cell, timer: Timer, pace: Pace, *, hurry: bool = False) -> None:
    """One round of one cell; in a hurry only its first kernel, once."""
    kernels = cell.alive()[:1] if hurry else cell.alive()
    with cell.around():
        for kernel in kernels:
            if not _too_slow(kernel, cell, pace):
                tries = 1 if hurry else pace.tries
                cell.rates.setdefault(kernel.name, []).extend(_try(kernel, timer, pace, tries, cell))


def _too_slow(kernel: Kernel, cell: Cell, pace: Pace) -> bool:
    rate = cell.likely_rate(kernel)
    return rate > 0 and kernel.work / rate > pace.max_call_s


def _try(kernel: Kernel, timer: Timer, pace: Pace, tries: int, cell: Cell) -> list[float]:
    """Rates of `tries` timings; a kernel's first timing in its cell is a warm-up and also sets the repeat count."""
    known = max(cell.rates.get(kernel.name) or [0.0])
    if kernel.fresh:
        return _try_fresh(kernel, timer, tries, warm=known > 0)
    call = kernel.prepare()
    first = 0.0 if known else timer([call])
    call_s = kernel.work / known if known else first
    calls = repeat_count(call_s, pace)
    tries = 1 if call_s > pace.long_call_s else tries
    return [kernel.work * calls / timer([call] * calls) for _ in range(tries)]


def _try_fresh(kernel: Kernel, timer: Timer, tries: int, *, warm: bool) -> list[float]:
    if not warm:
        timer([kernel.prepare()])
    batches = ([kernel.prepare() for _ in range(kernel.burst)] for _ in range(tries))
    return [kernel.work * kernel.burst / timer(batch) for batch in batches]


def repeat_count(call_s: float, pace: Pace) -> int:
    """Calls per timing so that it lasts `min_timing_s`."""
    if call_s <= 0:
        return pace.max_calls
    return max(1, min(pace.max_calls, math.ceil(pace.min_timing_s / call_s)))


def host_timer(calls: Sequence[Call]) -> float:
    """Seconds on the host clock; right for CPU kernels, which return when they are done."""
    start = time.perf_counter()
    for call in calls:
        call()
    return time.perf_counter() - start
