"""What bounds a traced step, the numbers that say so, and the next thing to try with the most it could gain.

Decisions over plain numbers; docs/method/components.md states every threshold. A gain is a bound by Amdahl's law: the
time that would vanish if the cause vanished, as a share of the window. It promises nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench.inspection.result import Verdict
from profiles.trace.breakdown import DeviceTimes
from profiles.trace.components import ComponentTimes
from profiles.trace.launching import Launches
from profiles.trace.operators import OperatorTimes
from profiles.trace.roofs import Roofs
from profiles.trace.rules import OTHER
from profiles.trace.starving import IdleTime

LEAST_LOSS_FRAC = 0.10
"""A cause of lost GPU time is named from this share of the window on, all together as mixed."""
LEAST_PART_FRAC = 0.01
"""What a mixed verdict names."""
LEAST_HOLE_NS = 1_000_000
"""One hole is named where it is half of the late idle time without input, and at least 1 ms."""
LEAST_KNOWN_FRAC = 0.50
"""Operators with known work must have this share of the busy time, or roofs say nothing about the whole."""


class Loss(NamedTuple):
    """GPU time lost to one cause: the verdict's kind, the cause in words, its time, what to try and what goes then."""

    kind: str
    cause: str
    ns: int
    advice: str
    without: str


def gpu_verdict(
    device: DeviceTimes,
    idle: IdleTime,
    launches: Launches,
    components: Sequence[ComponentTimes],
    operators: Sequence[OperatorTimes],
    roofs: Roofs | None,
    copied: str = "copies",
) -> Verdict:
    """Of one device: components and operators are of its work alone. `copied`: the copy that is hidden least."""
    losses = _losses(device, idle, copied)
    evidence = _gpu_evidence(device, idle, launches)
    window_ns = idle.window_ns or 1
    worst = max(losses, key=lambda loss: loss.ns)
    if worst.ns >= LEAST_LOSS_FRAC * window_ns:
        advice = f"{worst.advice}: without {worst.without} {at_most(worst.ns / window_ns)}"
        return Verdict(kind=worst.kind, evidence=evidence, advice=advice)
    lost_ns = sum(loss.ns for loss in losses)
    if lost_ns >= LEAST_LOSS_FRAC * window_ns:
        return Verdict(kind="mixed", evidence=evidence, advice=_mixed_advice(losses, worst, lost_ns, window_ns))
    return _busy_verdict(device, idle, evidence, components, operators, roofs)


def _losses(device: DeviceTimes, idle: IdleTime, copied: str) -> list[Loss]:
    """They make up all time in which the device computes nothing."""
    return [
        Loss(
            "launch-bound",
            "late launches",
            idle.launch_ns,
            _late_advice(idle),
            "the idle time before late launches",
        ),
        Loss(
            "input-bound",
            "input",
            idle.input_ns,
            "Prefetch batches on more loader workers and copy them from pinned memory ahead of the step",
            "the idle time during input",
        ),
        Loss(
            "input-dist-bound",
            "distribution of ids",
            idle.input_dist_ns,
            "Pipeline the sparse data distribution, so that the ids of the next batch travel during this step "
            "(torchrec: TrainPipelineSparseDist)",
            "the idle time during it",
        ),
        Loss(
            "communication-bound",
            "communication",
            device.exposed_comm_ns,
            "Overlap collectives with compute (pipelined sparse data distribution, larger buckets) or balance the "
            "tables over ranks",
            "communication that nothing hides",
        ),
        Loss(
            "dependency-bound",
            "queued work that waits",
            idle.queued_ns,
            "Look at what queued work waits for (events, other streams, copies) in the timeline",
            "these waits",
        ),
        Loss("copy-bound", "copies", device.exposed_mem_ns, _copy_advice(copied), "copies that nothing hides"),
        Loss(
            "unknown",
            "idle time of unknown cause",
            idle.unknown_ns,
            "Capture fewer steps, and the CPU's activities too: the work after most of the idle time has no launch in "
            "the trace, so its cause is not known",
            "that time",
        ),
    ]


def _mixed_advice(losses: Sequence[Loss], worst: Loss, lost_ns: int, window_ns: int) -> str:
    parts = sorted((loss for loss in losses if loss.ns >= LEAST_PART_FRAC * window_ns), key=lambda loss: -loss.ns)
    named = ", ".join(f"{loss.cause} {loss.ns / window_ns:.1%}" for loss in parts)
    return (
        f"No cause takes {LEAST_LOSS_FRAC:.0%} alone: {named}. For the largest: {worst.advice}; without all of them "
        f"{at_most(lost_ns / window_ns)}"
    )


def _late_advice(idle: IdleTime) -> str:
    """By what the host did meanwhile, apart from input, which has advice of its own."""
    if idle.sync_ns >= max(idle.launch_ns / 2, 1):
        return "Remove the calls that make the host wait for the device (.item(), copies to the host, synchronize)"
    if idle.largest_ns >= max(idle.launch_ns / 2, LEAST_HOLE_NS):
        place = f"the {idle.largest_ns / 1e6:.3f} ms from {idle.largest_at_ns / 1e6:.3f} ms on"
        meanwhile = f"in {idle.largest_during}" if idle.largest_during else "in no recorded operator"
        return f"Look at {place} first, which are most of the time before late launches, with the host {meanwhile}"
    return "Capture the step in a CUDA graph or fuse small operators"


_COPY_ADVICE = (
    ("Memset|fillBuffer", "Clear less (empty for zeros, gradients set to None) or in the kernel that writes anyway"),
    ("PtoP", "Send between devices on a stream of its own while they compute, or move less"),
    (
        "DtoD|DeviceToDevice|Device -> Device",
        "Remove copies on the device (clone, contiguous, inputs copied into graphs)",
    ),
    (
        r"(HtoD|HostToDevice).*Pinned",
        "Copy the next batch on a stream of its own during this step: its memory is pinned already",
    ),
    ("HtoD|HostToDevice", "Copy from pinned memory on a stream of its own, ahead of the step"),
    (r"(DtoH|DeviceToHost).*Pinned", "Read results later or more seldom, on a stream of its own"),
    ("DtoH|DeviceToHost", "Copy to pinned memory (non_blocking=True) on a stream of its own and read results later"),
)
"""By what is found in the name of the copy; the first that is. ROCm does not say what memory is pinned."""


def _copy_advice(copied: str) -> str:
    """By the kind that is hidden least."""
    told = (advice for pattern, advice in _COPY_ADVICE if re.search(pattern, copied))
    return f"{next(told, 'Copy on a stream of its own while others compute')}; most time is in {copied}"


def at_most(frac: float) -> str:
    """How the advice ends. Nothing is worth more than the window: times of parallel streams add up to more."""
    return f"the window would be shorter by at most {min(frac, 1.0):.1%}."


def _gpu_evidence(device: DeviceTimes, idle: IdleTime, launches: Launches) -> dict[str, float | int | str]:
    window_ns = idle.window_ns or 1
    return {
        "window_us": idle.window_ns / 1000,
        "idle_frac": idle.idle_ns / window_ns,
        "idle_host_late_frac": idle.late_ns / window_ns,
        "idle_input_frac": idle.input_ns / window_ns,
        "idle_input_dist_frac": idle.input_dist_ns / window_ns,
        "idle_after_sync_frac": idle.sync_ns / window_ns,
        "idle_queued_frac": idle.queued_ns / window_ns,
        "idle_unknown_frac": idle.unknown_ns / window_ns,
        "exposed_comm_frac": device.exposed_comm_ns / window_ns,
        "exposed_copies_frac": device.exposed_mem_ns / window_ns,
        "compute_frac": device.compute_ns / window_ns,
        "largest_late_gap_us": idle.largest_ns / 1000,
        "largest_late_gap_at_us": idle.largest_at_ns / 1000,
        "host_meanwhile": idle.during or "nothing recorded",
        "host_meanwhile_frac": idle.during_ns / (idle.launch_ns or 1),
        "syncs_count": idle.syncs,
        "launches_count": launches.pairs,
        "work_shorter_than_its_call_frac": launches.work_shorter_than_call / (launches.pairs or 1),
    }


class _Roofed(NamedTuple):
    """Operators with a known roof: seconds they took and could take, and seconds of those bound by memory."""

    taken_s: float
    shortest_s: float
    memory_s: float


def _roofed(operators: Sequence[OperatorTimes], roofs: Roofs) -> _Roofed:
    taken = shortest = memory = 0.0
    for one in operators:
        roof_s = roofs.seconds(one)
        if roof_s is None:
            continue
        peak = roofs.flops_per_s.get(one.dtype)
        taken += one.known_ns * 1e-9
        shortest += min(roof_s, one.known_ns * 1e-9)
        memory += one.known_ns * 1e-9 * (not peak or roof_s > one.flops / peak)
    return _Roofed(taken, shortest, memory)


def _busy_verdict(
    device: DeviceTimes,
    idle: IdleTime,
    evidence: Mapping[str, float | int | str],
    components: Sequence[ComponentTimes],
    operators: Sequence[OperatorTimes],
    roofs: Roofs | None,
) -> Verdict:
    """The device works nearly all the time: against its roofs where they are known, else by its largest component."""
    window_s = idle.window_ns * 1e-9
    if roofs is not None:
        seen = _roofed(operators, roofs)
        known = {**evidence, "operators_known_frac": min(seen.taken_s / (device.busy_ns * 1e-9 or 1), 1.0)}
        if seen.taken_s > 0 and seen.taken_s >= LEAST_KNOWN_FRAC * device.busy_ns * 1e-9:
            return _roofed_verdict(seen, window_s, known, operators, roofs)
        evidence = known
    largest, largest_ns = _largest([(t.component, t.gpu_wall_ns) for t in components])
    frac = min(largest_ns / (idle.window_ns or 1), 1.0)
    first = f"work on {words(largest)} first" if largest != OTHER else "name the parts of the model (record_function)"
    hint = " (--machine shows how far from their roofs its operators are)" if roofs is None else ""
    part = "it" if largest != OTHER else "what has no component"
    return Verdict(
        kind="idle-free",
        evidence={**evidence, "largest_component_frac": frac},
        advice=f"The device is busy; {first}{hint}: without {part} {at_most(frac)}",
    )


def _roofed_verdict(
    seen: _Roofed,
    window_s: float,
    evidence: Mapping[str, float | int | str],
    operators: Sequence[OperatorTimes],
    roofs: Roofs,
) -> Verdict:
    memory = seen.memory_s >= seen.taken_s / 2
    slack = [(o, o.known_ns * 1e-9 - s) for o in operators if (s := roofs.seconds(o)) is not None]
    worst, lost_s = max(slack, key=lambda pair: pair[1])
    gain = max(lost_s, 0.0) / (window_s or 1)
    return Verdict(
        kind="bandwidth-bound" if memory else "compute-bound",
        evidence={**evidence, "fraction_of_roof_frac": seen.shortest_s / seen.taken_s},
        advice=f"{worst.name} in {words(worst.component)} is furthest from its roof on {roofs.name}: at its roof "
        f"{at_most(gain)}",
    )


def words(component: str) -> str:
    """A component as people write it: bottom MLP."""
    return component.replace("_mlp", " MLP") if component != "mlp" else "the MLPs"


def _largest(parts: Sequence[tuple[str, int]]) -> tuple[str, int]:
    """(the component with the most time over its passes, that time)."""
    sums: dict[str, int] = {}
    for name, ns in parts:
        sums[name] = sums.get(name, 0) + ns
    name = max(sums, key=lambda n: sums[n], default=OTHER)
    return name, sums.get(name, 0)
