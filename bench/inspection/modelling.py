"""What one trace says of a model: components, operators, memory and the verdict, added to its Inspection. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from bench.inspection import model_result as out
from bench.inspection.against import Profiled, profiled
from bench.inspection.converting import us
from bench.inspection.host_verdict import TINY_NS, UNEVEN_BYTES, HostSeen, host_verdict
from bench.inspection.inspecting import by_device, inspect_trace
from bench.inspection.result import Component, Inspection, Verdict
from bench.inspection.verdict import gpu_verdict
from profiles.trace.breakdown import device_times
from profiles.trace.collectives import Order, launch_order
from profiles.trace.columns import Trace
from profiles.trace.components import Components, ComponentTimes, component_times, components, coverage_frac, only
from profiles.trace.copies import exposed_copies
from profiles.trace.gpu import GpuWork, gpu_work
from profiles.trace.homes import Bools
from profiles.trace.launching import launches
from profiles.trace.memory import MemoryTimes, memory_times
from profiles.trace.operators import OperatorTimes, operators, reached
from profiles.trace.roofs import Roofs
from profiles.trace.rules import Rules
from profiles.trace.starving import idle_time
from profiles.trace.stepwise import step_profile
from profiles.trace.unevenness import tiny_ops, uneven_ns
from profiles.trace.windows import Policy, Window, window, work_inside


class Lens(msgspec.Struct, frozen=True, kw_only=True):
    """What a trace is looked at with. `allocator` is that of the traced process, '' where it is not known."""

    rules: Rules
    roofs: Roofs | None = None
    allocator: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Analysis:
    """One trace: what is printed, and what is needed to hold it beside other ranks or other traces."""

    inspection: Inspection
    steps: Profiled
    collectives: Order


def analyse(trace: Trace, policy: Policy, lens: Lens) -> Analysis:
    """Everything about one trace. TraceError where it has too few steps for the policy."""
    found, within = inspect_trace(trace, policy), window(trace, policy)
    whole = gpu_work(trace)
    work = work_inside(whole, within)
    parts = components(work, lens.rules)
    host = within.holds(trace.ts_ns[parts.stacks.rows])
    times, ops = component_times(parts, host), operators(parts, host)
    inspection = msgspec.structs.replace(
        found,
        components=tuple(_component(t) for t in times),
        coverage_frac=coverage_frac(times),
        operators=tuple(_operator(o, lens.roofs) for o in ops),
        achieved=_achieved(ops, lens.roofs),
        machine=_machine(lens.roofs),
        memory=tuple(_memory(m) for m in memory_times(trace.memory)),
        verdict=_verdict(found, parts, host, times, ops, lens, whole, within),
    )
    return Analysis(inspection, profiled(trace, step_profile(parts, within.steps)), launch_order(work))


def _component(times: ComponentTimes) -> Component:
    return Component(
        component=times.component,
        phase=times.phase,
        gpu_us_sum=us(times.gpu_sum_ns),
        gpu_us_wall=us(times.gpu_wall_ns),
        cpu_us=us(times.cpu_ns),
    )


def _operator(found: OperatorTimes, roofs: Roofs | None) -> out.Operator:
    message = found.bytes_convention == "message"
    return out.Operator(
        name=found.name,
        component=found.component,
        phase=found.phase,
        n=found.n,
        n_known=found.n_known,
        sum_us=us(found.sum_ns),
        flops=found.flops,
        bytes=found.bytes,
        bytes_convention=found.bytes_convention,
        dtype=found.dtype,
        flops_per_s=found.flops_per_s,
        bytes_per_s=found.bytes_per_s,
        intensity=found.flops / found.bytes if found.bytes and not message else None,
        fraction_of_roof=roofs.fraction(found) if roofs is not None else None,
    )


def _achieved(ops: tuple[OperatorTimes, ...], roofs: Roofs | None) -> tuple[out.Achieved, ...]:
    return tuple(
        out.Achieved(
            component=r.component,
            phase=r.phase,
            known_frac=r.known_frac,
            flops_per_s=r.flops_per_s,
            bytes_per_s=r.bytes_per_s,
            fraction_of_roof=_fraction((r.component, r.phase), ops, roofs),
        )
        for r in reached(ops)
    )


def _fraction(part: tuple[str, str], ops: tuple[OperatorTimes, ...], roofs: Roofs | None) -> float | None:
    """Shortest time over time taken, of the operators of a part whose roof is known."""
    if roofs is None:
        return None
    pairs = [
        (s, o.known_ns * 1e-9) for o in ops if (o.component, o.phase) == part and (s := roofs.seconds(o)) is not None
    ]
    taken = sum(t for _, t in pairs)
    return sum(s for s, _ in pairs) / taken if taken else None


def _machine(roofs: Roofs | None) -> out.Machine | None:
    if roofs is None:
        return None
    return out.Machine(
        name=roofs.name, source=roofs.source, bytes_per_s=roofs.bytes_per_s, flops_per_s=dict(roofs.flops_per_s)
    )


def _memory(found: MemoryTimes) -> out.Memory:
    return out.Memory(
        device=found.device,
        events=found.events,
        allocations=found.allocations,
        allocated_bytes=found.allocated_bytes,
        peak_bytes=found.peak_bytes,
        peak_at_us=us(found.peak_at_ns),
        peak_reserved_bytes=found.peak_reserved_bytes,
        from_zero=found.from_zero,
        time_us=tuple(us(t) for t in found.time_ns),
        held_bytes=found.held_bytes,
    )


def _verdict(
    found: Inspection,
    parts: Components,
    host: Bools,
    times: tuple[ComponentTimes, ...],
    ops: tuple[OperatorTimes, ...],
    lens: Lens,
    whole: GpuWork,
    within: Window,
) -> Verdict | None:
    """Of the busiest device, or of the host where there is none; None for a trace with nothing that has a duration.

    `whole` is the GPU work of the trace inside and outside the window.
    """
    devices = by_device(parts.work)
    if devices:
        seen = {pid: device_times(work) for pid, work in devices.items()}
        pid = max(seen, key=lambda p: seen[p].busy_ns)
        if len(devices) > 1:
            parts = only(parts, parts.work.device == parts.work.devices.index(pid))
            times, ops = component_times(parts, host), operators(parts, host)
        idle = idle_time(parts.work, parts, by_device(whole)[pid], within)
        if not idle.window_ns:
            return None
        exposed = exposed_copies(parts.work)
        copied = max(exposed, key=lambda name: exposed[name], default="copies")
        return gpu_verdict(seen[pid], idle, launches(parts.work), times, ops, lens.roofs, copied)
    if found.host is None or not found.host.threads:
        return None
    op_ns, ops_n, tiny_ns, tiny_n = tiny_ops(parts, host, TINY_NS)
    seen_host = HostSeen(
        span_ns=round(found.host.span_us * 1000),
        busiest_ns=round(max(t.busy_us for t in found.host.threads) * 1000),
        op_ns=op_ns,
        ops=ops_n,
        tiny_ns=tiny_ns,
        tiny_ops=tiny_n,
        uneven_ns=uneven_ns(parts, host, UNEVEN_BYTES),
    )
    return host_verdict(seen_host, times, lens.allocator)
