"""What the host's threads did: own time of each op, busy and idle time, and how parallel the threads were. In ns."""

from __future__ import annotations

import msgspec
import numpy as np

from profiles.trace.columns import LAUNCH_CATEGORIES, Category, Int64, Lane, Trace
from profiles.trace.nesting import Nesting
from profiles.trace.spans import union
from profiles.trace.windows import STEP_NAME


class ThreadTimes(msgspec.Struct, frozen=True, kw_only=True):
    """One thread: busy is the union of its ops and runtime calls, gaps the holes between them."""

    lane: Lane
    name: str | None
    events: int
    busy_ns: int
    span_ns: int
    gaps: int
    largest_gap_ns: int


class HostTimes(msgspec.Struct, frozen=True, kw_only=True):
    """All threads. `busy_ns`: at least one is busy. `parallel_efficiency_frac`: busy time of all threads together
    over their number times the span; 1 means that all worked all the time.
    """

    span_ns: int
    busy_ns: int
    idle_ns: int
    parallel_efficiency_frac: float
    threads: tuple[ThreadTimes, ...]


class OpTimes(msgspec.Struct, frozen=True, kw_only=True):
    """All calls of one op. Own time is the time of a call without the ops inside it."""

    name: str
    n: int
    sum_ns: int
    own_sum_ns: int
    own_mean_ns: float
    own_median_ns: float
    own_sd_ns: float


def host_rows(trace: Trace) -> Int64:
    """Ops and runtime calls of the host. Annotations are names for time, not work; traces of 2021 call steps ops."""
    rows = trace.rows(Category.CPU_OP, *LAUNCH_CATEGORIES)
    is_step = np.array([STEP_NAME.fullmatch(name) is not None for name in trace.names], bool)
    work: Int64 = rows[~is_step[trace.name[rows]]]
    return work


def host_times(trace: Trace, rows: Int64) -> HostTimes | None:
    """Busy and idle time of the threads of these rows; None where there are none."""
    if not len(rows):
        return None
    starts, ends = trace.ts_ns[rows], trace.ts_ns[rows] + trace.dur_ns[rows]
    span_ns = int(ends.max() - starts.min())
    lanes = trace.lane[rows]
    threads = tuple(_thread(trace, lane, rows[lanes == lane]) for lane in np.unique(lanes).tolist())
    busy_ns, whole_ns = union(starts, ends).length, span_ns * len(threads)
    return HostTimes(
        span_ns=span_ns,
        busy_ns=busy_ns,
        idle_ns=span_ns - busy_ns,
        parallel_efficiency_frac=sum(t.busy_ns for t in threads) / whole_ns if whole_ns else 0.0,
        threads=tuple(sorted(threads, key=lambda t: -t.busy_ns)),
    )


def _thread(trace: Trace, lane: int, rows: Int64) -> ThreadTimes:
    busy = union(trace.ts_ns[rows], trace.ts_ns[rows] + trace.dur_ns[rows])
    holes = busy.starts[1:] - busy.ends[:-1]
    return ThreadTimes(
        lane=trace.lanes[lane],
        name=trace.metadata.thread_names.get(trace.lanes[lane]),
        events=len(rows),
        busy_ns=busy.length,
        span_ns=int(busy.ends[-1] - busy.starts[0]) if len(busy.ends) else 0,
        gaps=len(holes),
        largest_gap_ns=int(holes.max(initial=0)),
    )


def own_ns(trace: Trace, rows: Int64) -> Int64:
    """The own time of each of these rows, nested thread by thread."""
    own = np.zeros(len(rows), np.int64)
    lanes = trace.lane[rows]
    for lane in np.unique(lanes).tolist():
        on_lane = np.flatnonzero(lanes == lane)
        starts = trace.ts_ns[rows[on_lane]]
        own[on_lane] = Nesting(starts, starts + trace.dur_ns[rows[on_lane]]).own_ns()
    return own


def op_times(trace: Trace, rows: Int64) -> tuple[OpTimes, ...]:
    """Own times by name, the largest sum first."""
    if not len(rows):
        return ()
    own, names = own_ns(trace, rows), trace.name[rows].astype(np.int64)
    order = np.lexsort([own, names])
    codes, firsts = np.unique(names[order], return_index=True)
    sums = np.bincount(names, trace.dur_ns[rows], minlength=len(trace.names)).astype(np.int64)
    found = [
        _op(trace.names[code], part, int(sums[code]))
        for code, part in zip(codes.tolist(), np.split(own[order], firsts[1:]), strict=True)
    ]
    return tuple(sorted(found, key=lambda o: (-o.own_sum_ns, o.name)))


def _op(name: str, own: Int64, sum_ns: int) -> OpTimes:
    """Of sorted own times."""
    n, total = len(own), int(own.sum())
    return OpTimes(
        name=name,
        n=n,
        sum_ns=sum_ns,
        own_sum_ns=total,
        own_mean_ns=total / n,
        own_median_ns=(int(own[(n - 1) // 2]) + int(own[n // 2])) / 2,
        own_sd_ns=float(own.std(ddof=1)) if n > 1 else 0.0,
    )
