"""How the host feeds the device: launch calls paired with GPU work, their delays, and the queues they fill. In ns."""

from __future__ import annotations

import msgspec
import numpy as np

from profiles.trace.columns import LAUNCH_CATEGORIES, NONE, Int64
from profiles.trace.gpu import GpuWork
from profiles.trace.links import mixed_correlations


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Some durations: how many, their sum, mean, quantiles (linear) and extremes, in ns."""

    n: int
    sum_ns: int
    mean_ns: float
    p50_ns: float
    p90_ns: float
    p99_ns: float
    min_ns: int
    max_ns: int


class Launches(msgspec.Struct, frozen=True, kw_only=True):
    """Pairs of GPU event and launch call.

    A delay is kernel start minus call end: negative where the kernel began before its call returned; `delay_clipped`
    has 0 in that place. `launches_without_work` are kernel launches and copies whose GPU event is missing.
    """

    calls: int
    pairs: int
    work_without_launch: int
    launches_without_work: int
    shared_launches: int
    most_work_per_launch: int
    delay_negative: int
    delay: Spread
    delay_clipped: Spread
    call: Spread
    work_shorter_than_call: int
    by_call: dict[str, int]


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """Work launched but not begun, on one stream: the most, and the mean over time from first to last change."""

    most: int
    mean: float


# A memset may leave no GPU event, one of 0 bytes for instance, so a lone call is no sign of loss.
# hipMemcpyWithStream is the copy of ROCm that waits; it leaves a GPU event as the asynchronous one does.
_LAUNCH_WORDS = (
    "LaunchKernel",
    "LaunchCooperativeKernel",
    "GraphLaunch",
    "MemcpyAsync",
    "MemcpyWithStream",
    "ModuleLaunch",
)


def spread(values_ns: Int64) -> Spread:
    """Statistics of some durations; zeros where there are none."""
    if not len(values_ns):
        return Spread(n=0, sum_ns=0, mean_ns=0.0, p50_ns=0.0, p90_ns=0.0, p99_ns=0.0, min_ns=0, max_ns=0)
    p50, p90, p99 = np.percentile(values_ns, [50, 90, 99]).tolist()
    total = int(values_ns.sum())
    return Spread(
        n=len(values_ns),
        sum_ns=total,
        mean_ns=total / len(values_ns),
        p50_ns=p50,
        p90_ns=p90,
        p99_ns=p99,
        min_ns=int(values_ns.min()),
        max_ns=int(values_ns.max()),
    )


def launches(work: GpuWork, first_ns: int | None = None, end_ns: int | None = None) -> Launches:
    """The pairs of these events; calls are counted that begin in [first_ns, end_ns), everywhere without bounds."""
    trace, paired = work.trace, work.launch != NONE
    call_rows = work.launch[paired]
    call_durs = trace.dur_ns[call_rows]
    delay = work.starts_ns[paired] - (trace.ts_ns[call_rows] + call_durs)
    used, times_used = np.unique(call_rows, return_counts=True)
    calls = trace.rows(*LAUNCH_CATEGORIES)
    if first_ns is not None and end_ns is not None:
        calls = calls[(trace.ts_ns[calls] >= first_ns) & (trace.ts_ns[calls] < end_ns)]
    return Launches(
        calls=len(calls),
        pairs=len(call_rows),
        work_without_launch=int(np.count_nonzero(~paired)),
        launches_without_work=_without_work(work, calls, used),
        shared_launches=int(np.count_nonzero(times_used > 1)),
        most_work_per_launch=int(times_used.max(initial=0)),
        delay_negative=int(np.count_nonzero(delay < 0)),
        delay=spread(delay),
        delay_clipped=spread(np.maximum(delay, 0)),
        call=spread(call_durs),
        work_shorter_than_call=int(np.count_nonzero(work.durs_ns[paired] < call_durs)),
        by_call=_by_name(work, used),
    )


def _without_work(work: GpuWork, calls: Int64, used: Int64) -> int:
    """Calls that put work on a device and whose work is not in the trace."""
    trace = work.trace
    launching = np.array([any(word in name for word in _LAUNCH_WORDS) for name in trace.names], bool)
    idle = calls[launching[trace.name[calls]] & ~np.isin(calls, used)]
    correlations = trace.correlation[idle]
    # A driver call inside a runtime call shares its correlation, and its work. Of correlations that several processes
    # carry it is not known whose the work is.
    known = np.concatenate([trace.correlation[used].astype(np.int64), mixed_correlations(trace)])
    return int(np.count_nonzero(~np.isin(correlations, known)))


def _by_name(work: GpuWork, rows: Int64) -> dict[str, int]:
    codes, counts = np.unique(work.trace.name[rows], return_counts=True)
    return {work.trace.names[c]: n for c, n in zip(codes.tolist(), counts.tolist(), strict=True)}


def queue(work: GpuWork) -> Queue | None:
    """The queue of one stream's events; None where no launch is known. +1 when a call begins, -1 when its work does."""
    paired = work.launch != NONE
    begun, launched = work.starts_ns[paired], work.trace.ts_ns[work.launch[paired]]
    if not len(begun):
        return None
    at = np.concatenate([launched, begun])
    change = np.repeat([1, -1], len(begun))
    order = np.lexsort([-change, at])
    at, length = at[order], np.cumsum(change[order])
    whole_ns = int(at[-1] - at[0])
    weighted = int((length[:-1] * np.diff(at)).sum())
    return Queue(most=int(length.max()), mean=weighted / whole_ns if whole_ns else 0.0)
