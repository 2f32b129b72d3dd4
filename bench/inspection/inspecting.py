"""One trace to its Inspection: the breakdowns of profiles/trace, put together. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bench.inspection import converting as to
from bench.inspection.quality import assess
from bench.inspection.result import Inspection, InspectionSet, Quality
from profiles.trace.breakdown import device_times
from profiles.trace.columns import Process, Trace
from profiles.trace.copies import copies
from profiles.trace.gpu import GpuWork, gpu_work
from profiles.trace.host import host_rows, host_times, op_times
from profiles.trace.kernels import kernels
from profiles.trace.launching import launches
from profiles.trace.windows import Policy, find_steps, window, work_inside


def inspect_trace(trace: Trace, policy: Policy = "all") -> Inspection:
    """Everything about one trace. TraceError where it has too few steps for the policy."""
    whole, within = gpu_work(trace), window(trace, policy)
    work = work_inside(whole, within)
    parts = by_device(work)
    times = {pid: device_times(part) for pid, part in parts.items()}
    launched, copied = launches(work, within.start_ns, within.end_ns), copies(work)
    rows = host_rows(trace)
    rows = rows[within.holds(trace.ts_ns[rows])]
    # The line is of the whole trace, which the policy 'all' has looked at already.
    seen = (trace, within.steps, launched, tuple(times.values()), tuple(copied.values()))
    quality = assess(*seen) if policy == "all" else _quality(trace, whole)
    return Inspection(
        file=str(trace.path),
        rank=trace.metadata.rank,
        quality=quality,
        window=to.window(within),
        devices={str(pid): to.device(trace, pid, part, times[pid]) for pid, part in parts.items()},
        launches=to.launches(launched) if len(work) else None,
        copies={name: to.copy(found) for name, found in copied.items()},
        kernels=tuple(to.kernel(found) for found in kernels(work)),
        host=to.host(host_times(trace, rows)),
        ops=tuple(to.op(found) for found in op_times(trace, rows)),
    )


def inspect_set(found: Sequence[Inspection]) -> InspectionSet:
    """Several traces in order of rank; those without one keep their order, at the end."""
    return InspectionSet(traces=tuple(sorted(found, key=lambda i: (i.rank is None, i.rank or 0))))


def by_device(work: GpuWork) -> dict[Process, GpuWork]:
    """The work of each device that has some, by its pid."""
    parts = {pid: work.only(work.device == number) for number, pid in enumerate(work.devices)}
    return {pid: part for pid, part in parts.items() if len(part)}


def _quality(trace: Trace, whole: GpuWork) -> Quality:
    """Of the whole trace, whatever part is looked at."""
    times = tuple(device_times(part) for part in by_device(whole).values())
    return assess(trace, find_steps(trace), launches(whole), times, tuple(copies(whole).values()))
