"""Where the time of a device went: busy and idle, compute, communication and copies, and why it was idle. In ns."""

from __future__ import annotations

import msgspec
import numpy as np

from profiles.trace.columns import NONE, Int64
from profiles.trace.gpu import GpuWork, Kind
from profiles.trace.spans import Spans, both, overlap, union


class IdleGaps(msgspec.Struct, frozen=True, kw_only=True):
    """Holes of the device by cause (docs/method/traces.md): how long and how many."""

    host_late_ns: int
    queued_ns: int
    unknown_ns: int
    host_late_n: int
    queued_n: int
    unknown_n: int


class StreamTimes(msgspec.Struct, frozen=True, kw_only=True):
    """One stream. `overlapping` counts events that begin before an earlier one of the stream has ended."""

    events: int
    sum_ns: int
    busy_ns: int
    span_ns: int
    overlapping: int


class DeviceTimes(msgspec.Struct, frozen=True, kw_only=True):
    """One device. compute + exposed_comm + exposed_mem = busy; busy + idle = span = first start to last end."""

    events: int
    span_ns: int
    busy_ns: int
    idle_ns: int
    sum_ns: int
    compute_ns: int
    comm_ns: int
    mem_ns: int
    comm_overlap_ns: int
    exposed_comm_ns: int
    exposed_mem_ns: int
    gaps: IdleGaps
    counts: dict[str, int]
    streams: dict[int, StreamTimes]


def device_times(work: GpuWork) -> DeviceTimes:
    """The breakdown of the events of one device (at least one)."""
    busy = union(work.starts_ns, work.ends_ns)
    compute, comm, mem = (_spans(work, *kinds) for kinds in ((Kind.COMPUTE,), (Kind.COMM,), (Kind.MEMCPY, Kind.MEMSET)))
    overlap_ns = overlap(comm, compute)
    span_ns = int(work.ends_ns.max() - work.starts_ns.min())
    return DeviceTimes(
        events=len(work),
        span_ns=span_ns,
        busy_ns=busy.length,
        idle_ns=span_ns - busy.length,
        sum_ns=int(work.durs_ns.sum()),
        compute_ns=compute.length,
        comm_ns=comm.length,
        mem_ns=mem.length,
        comm_overlap_ns=overlap_ns,
        exposed_comm_ns=comm.length - overlap_ns,
        exposed_mem_ns=busy.length - both(compute, comm).length,
        gaps=_idle_gaps(work),
        counts={kind.name.lower(): n for kind in Kind if (n := int(np.count_nonzero(work.kind == kind)))},
        streams={s: stream_times(work.only(work.stream == s)) for s in np.unique(work.stream).tolist()},
    )


def _spans(work: GpuWork, *kinds: Kind) -> Spans:
    wanted = np.isin(work.kind, kinds)
    return union(work.starts_ns[wanted], work.ends_ns[wanted])


def idle_spans(work: GpuWork) -> Spans:
    """The holes of the device. Events of no length split a hole, as they show that the device had work."""
    order = np.argsort(work.starts_ns, kind="stable")
    starts, reach = work.starts_ns[order], np.maximum.accumulate(work.ends_ns[order])
    holes = np.flatnonzero(starts[1:] > reach[:-1])
    return Spans(reach[holes], starts[holes + 1])


def _idle_gaps(work: GpuWork) -> IdleGaps:
    """Each hole by the launch call of the event that ends it."""
    holes = idle_spans(work)
    launch_ns = closing_launch_ns(work, holes)
    length = holes.ends - holes.starts
    unknown = launch_ns == NONE
    late = ~unknown & (launch_ns > holes.starts)
    queued = ~unknown & ~late
    return IdleGaps(
        host_late_ns=int(length[late].sum()),
        queued_ns=int(length[queued].sum()),
        unknown_ns=int(length[unknown].sum()),
        host_late_n=int(late.sum()),
        queued_n=int(queued.sum()),
        unknown_n=int(unknown.sum()),
    )


def closing_launch_ns(work: GpuWork, holes: Spans) -> Int64:
    """When the first event after each hole was launched, NONE where that is not known."""
    closing = work.launch[np.searchsorted(work.starts_ns, holes.ends)]
    return np.where(closing == NONE, NONE, work.trace.ts_ns[closing])


def stream_times(work: GpuWork) -> StreamTimes:
    """The events of one stream."""
    reach = np.maximum.accumulate(work.ends_ns)
    return StreamTimes(
        events=len(work),
        sum_ns=int(work.durs_ns.sum()),
        busy_ns=union(work.starts_ns, work.ends_ns).length,
        span_ns=int(reach[-1] - work.starts_ns[0]),
        overlapping=int(np.count_nonzero(work.starts_ns[1:] < reach[:-1])),
    )
