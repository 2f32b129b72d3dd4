"""Structs of profiles/trace, in ns, to those of the JSON document, in us."""

from __future__ import annotations

from bench.inspection import result
from profiles.trace.breakdown import DeviceTimes, IdleGaps
from profiles.trace.columns import Process, Trace
from profiles.trace.copies import Copies
from profiles.trace.gpu import GpuWork
from profiles.trace.host import HostTimes, OpTimes, ThreadTimes
from profiles.trace.kernels import KernelTimes
from profiles.trace.launching import Launches, Spread, queue
from profiles.trace.windows import Window


def us(ns: float) -> float:
    """Microseconds with three decimals: whole nanoseconds keep all their digits."""
    return round(ns / 1000, 3)


def window(found: Window) -> result.WindowTimes:
    """The policy and what it took."""
    return result.WindowTimes(
        policy=found.policy,
        start_us=None if found.start_ns is None else us(found.start_ns),
        end_us=None if found.end_ns is None else us(found.end_ns),
        steps=len(found.steps),
    )


def device(trace: Trace, pid: Process, work: GpuWork, times: DeviceTimes) -> result.Device:
    """One device, with its name where the file lists it, and the queue of each stream."""
    causes_us, causes_n = _causes(times.gaps)
    return result.Device(
        name=device_name(trace, pid),
        span_us=us(times.span_ns),
        busy_us=us(times.busy_ns),
        idle_us=us(times.idle_ns),
        sum_us=us(times.sum_ns),
        compute_us=us(times.compute_ns),
        comm_us=us(times.comm_ns),
        mem_us=us(times.mem_ns),
        comm_overlap_us=us(times.comm_overlap_ns),
        exposed_comm_us=us(times.exposed_comm_ns),
        exposed_mem_us=us(times.exposed_mem_ns),
        idle_causes_us=causes_us,
        idle_causes_n=causes_n,
        counts=times.counts,
        streams={str(number): _stream(work, number, times) for number in times.streams},
    )


def device_name(trace: Trace, pid: Process) -> str | None:
    """What deviceProperties call the device of this pid."""
    names = [d.get("name") for d in trace.metadata.devices if d.get("id") == pid]
    return str(names[0]) if names and names[0] is not None else None


def _causes(gaps: IdleGaps) -> tuple[result.Causes, result.Causes]:
    """(how long in us, how many)."""
    return (
        result.Causes(host_late=us(gaps.host_late_ns), queued=us(gaps.queued_ns), unknown=us(gaps.unknown_ns)),
        result.Causes(host_late=gaps.host_late_n, queued=gaps.queued_n, unknown=gaps.unknown_n),
    )


def _stream(work: GpuWork, number: int, times: DeviceTimes) -> result.Stream:
    found, waiting = times.streams[number], queue(work.only(work.stream == number))
    return result.Stream(
        events=found.events,
        sum_us=us(found.sum_ns),
        busy_us=us(found.busy_ns),
        span_us=us(found.span_ns),
        overlapping=found.overlapping,
        queue_max=waiting.most if waiting else None,
        queue_mean=waiting.mean if waiting else None,
    )


def launches(found: Launches) -> result.Launches:
    """Calls, pairs, delays."""
    return result.Launches(
        calls=found.calls,
        pairs=found.pairs,
        shared=found.shared_launches,
        most_per_launch=found.most_work_per_launch,
        delay_negative=found.delay_negative,
        delay_us=_spread(found.delay),
        delay_clipped_us=_spread(found.delay_clipped),
        call_us=_spread(found.call),
        shorter_than_call=found.work_shorter_than_call,
        by_call=found.by_call,
    )


def _spread(found: Spread) -> result.Spread:
    return result.Spread(
        n=found.n,
        sum=us(found.sum_ns),
        mean=us(found.mean_ns),
        p50=us(found.p50_ns),
        p90=us(found.p90_ns),
        p99=us(found.p99_ns),
        min=us(found.min_ns),
        max=us(found.max_ns),
    )


def copy(found: Copies) -> result.Copy:
    """The copies of one direction."""
    return result.Copy(
        n=found.events,
        sum_us=us(found.sum_ns),
        bytes=found.bytes,
        bytes_unknown=found.bytes_unknown,
        bytes_per_s=found.bytes_per_s,
    )


def kernel(found: KernelTimes) -> result.Kernel:
    """GPU work of one name."""
    return result.Kernel(
        name=found.name,
        n=found.n,
        sum_us=us(found.sum_ns),
        mean_us=us(found.mean_ns),
        median_us=us(found.median_ns),
        sd_us=us(found.sd_ns),
    )


def op(found: OpTimes) -> result.Kernel:
    """Host ops of one name, by their own time."""
    return result.Kernel(
        name=found.name,
        n=found.n,
        sum_us=us(found.own_sum_ns),
        mean_us=us(found.own_mean_ns),
        median_us=us(found.own_median_ns),
        sd_us=us(found.own_sd_ns),
    )


def host(found: HostTimes | None) -> result.Host | None:
    """The threads, the busiest first."""
    if found is None:
        return None
    return result.Host(
        span_us=us(found.span_ns),
        busy_us=us(found.busy_ns),
        idle_us=us(found.idle_ns),
        parallel_efficiency_frac=found.parallel_efficiency_frac,
        threads=tuple(_thread(thread) for thread in found.threads),
    )


def _thread(found: ThreadTimes) -> result.Thread:
    return result.Thread(
        pid=found.lane[0],
        tid=found.lane[1],
        name=found.name,
        events=found.events,
        busy_us=us(found.busy_ns),
        span_us=us(found.span_ns),
        gaps=found.gaps,
        largest_gap_us=us(found.largest_gap_ns),
    )
