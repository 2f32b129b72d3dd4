"""What bounds a traced step, the numbers that say so, and the next thing to try with the most it could gain.

Decisions over plain numbers; docs/method/components.md states every threshold. A gain is a bound by Amdahl's law: the
time that would vanish if the cause vanished, as a share of the window. It promises nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench.inspection.result import Verdict
from profiles.trace.breakdown import DeviceTimes
from profiles.trace.components import ComponentTimes
from profiles.trace.launching import Launches
from profiles.trace.operators import OperatorTimes
from profiles.trace.roofs import Roofs
from profiles.trace.rules import OTHER
from profiles.trace.starving import LateIdle

LEAST_LOSS_FRAC = 0.10
"""A cause of lost GPU time is named from this share of the span on."""
LEAST_HOLE_NS = 1_000_000
"""One hole is named where it is half of the late idle time without input, and at least 1 ms."""
LEAST_KNOWN_FRAC = 0.50
"""Operators with known work must have this share of the busy time, or roofs say nothing about the whole."""


class Loss(NamedTuple):
    """GPU time lost to one cause: the verdict's kind, the share of the span, and what to try."""

    kind: str
    frac: float
    advice: str


def gpu_verdict(
    device: DeviceTimes,
    late: LateIdle,
    launches: Launches,
    components: Sequence[ComponentTimes],
    operators: Sequence[OperatorTimes],
    roofs: Roofs | None,
    copied: str = "copies",
) -> Verdict:
    """Of the busiest device of a trace. `copied`: the kind of copy that took the most time."""
    losses = _losses(device, late, copied)
    evidence = _gpu_evidence(device, late, launches)
    worst = max(losses, key=lambda loss: loss.frac)
    if worst.frac >= LEAST_LOSS_FRAC:
        return Verdict(kind=worst.kind, evidence=evidence, advice=f"{worst.advice} {at_most(worst.frac)}")
    return _busy_verdict(device, evidence, components, operators, roofs)


def _losses(device: DeviceTimes, late: LateIdle, copied: str) -> list[Loss]:
    span = device.span_ns or 1
    return [
        Loss("launch-bound", late.launch_ns / span, _late_advice(late)),
        Loss(
            "input-bound",
            late.input_ns / span,
            "Prefetch batches on more loader workers and copy them from pinned memory ahead of the step: without the "
            "idle time during input",
        ),
        Loss(
            "input-dist-bound",
            late.input_dist_ns / span,
            "Pipeline the sparse data distribution, so that the ids of the next batch travel during this step "
            "(torchrec: TrainPipelineSparseDist): without the idle time during it",
        ),
        Loss(
            "communication-bound",
            device.exposed_comm_ns / span,
            "Overlap collectives with compute (pipelined sparse data distribution, larger buckets) or balance the "
            "tables over ranks: with all communication hidden",
        ),
        Loss(
            "dependency-bound",
            device.gaps.queued_ns / span,
            "Look at what queued work waits for (events, other streams, copies) in the timeline: without these waits",
        ),
        Loss("copy-bound", device.exposed_mem_ns / span, _copy_advice(copied)),
    ]


def _late_advice(late: LateIdle) -> str:
    """By what the host did meanwhile, apart from input, which has advice of its own."""
    ended = "without the idle time before late launches"
    if late.sync_ns >= late.launch_ns / 2:
        return (
            "Remove the calls that make the host wait for the device (.item(), copies to the host, synchronize): "
            + ended
        )
    if late.largest_ns >= max(late.launch_ns / 2, LEAST_HOLE_NS):
        place = f"the {late.largest_ns / 1e6:.3f} ms from {late.largest_at_ns / 1e6:.3f} ms on"
        meanwhile = f"in {late.largest_during}" if late.largest_during else "in no recorded operator"
        most = "which are most of the time before late launches"
        return f"Look at {place} first, {most}, with the host {meanwhile}: {ended}"
    return f"Capture the step in a CUDA graph or fuse small operators: {ended}"


def _copy_advice(copied: str) -> str:
    """By the direction that took the most time."""
    if "DtoD" in copied or "Device -> Device" in copied:
        return (
            "Remove copies on the device (clone, contiguous, inputs copied into graphs); most time is in "
            f"{copied}: with all copies hidden"
        )
    return f"Copy from pinned memory on a stream of its own; most time is in {copied}: with all copies hidden"


def at_most(frac: float) -> str:
    """How the advice ends."""
    return f"the window would be shorter by at most {frac:.1%}."


def _gpu_evidence(device: DeviceTimes, late: LateIdle, launches: Launches) -> dict[str, float | int | str]:
    span = device.span_ns or 1
    return {
        "span_us": device.span_ns / 1000,
        "idle_frac": device.idle_ns / span,
        "idle_host_late_frac": device.gaps.host_late_ns / span,
        "idle_input_frac": late.input_ns / span,
        "idle_input_dist_frac": late.input_dist_ns / span,
        "idle_after_sync_frac": late.sync_ns / span,
        "idle_queued_frac": device.gaps.queued_ns / span,
        "idle_unknown_frac": device.gaps.unknown_ns / span,
        "exposed_comm_frac": device.exposed_comm_ns / span,
        "exposed_copies_frac": device.exposed_mem_ns / span,
        "compute_frac": device.compute_ns / span,
        "largest_late_gap_us": late.largest_ns / 1000,
        "largest_late_gap_at_us": late.largest_at_ns / 1000,
        "host_meanwhile": late.during or "nothing recorded",
        "host_meanwhile_frac": late.during_ns / (late.launch_ns or 1),
        "syncs_count": late.syncs,
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
    evidence: Mapping[str, float | int | str],
    components: Sequence[ComponentTimes],
    operators: Sequence[OperatorTimes],
    roofs: Roofs | None,
) -> Verdict:
    """The device works nearly all the time: against its roofs where they are known, else by its largest component."""
    span_s = device.span_ns * 1e-9
    if roofs is not None:
        seen = _roofed(operators, roofs)
        known = {**evidence, "operators_known_frac": seen.taken_s / (device.busy_ns * 1e-9 or 1)}
        if seen.taken_s >= LEAST_KNOWN_FRAC * device.busy_ns * 1e-9:
            return _roofed_verdict(seen, span_s, known, operators, roofs)
        evidence = known
    largest, frac = _largest([(t.component, t.gpu_sum_ns) for t in components])
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
    span_s: float,
    evidence: Mapping[str, float | int | str],
    operators: Sequence[OperatorTimes],
    roofs: Roofs,
) -> Verdict:
    memory = seen.memory_s >= seen.taken_s / 2
    slack = [(o, o.known_ns * 1e-9 - s) for o in operators if (s := roofs.seconds(o)) is not None]
    worst, lost_s = max(slack, key=lambda pair: pair[1])
    gain = max(lost_s, 0.0) / (span_s or 1)
    return Verdict(
        kind="bandwidth-bound" if memory else "compute-bound",
        evidence={**evidence, "fraction_of_roof_frac": seen.shortest_s / seen.taken_s},
        advice=f"{worst.name} in {words(worst.component)} is furthest from its roof on {roofs.name}: at its roof "
        f"{at_most(gain)}",
    )


def words(component: str) -> str:
    """A component as people write it: bottom MLP."""
    return component.replace("_mlp", " MLP") if component != "mlp" else "the MLPs"


def _largest(parts: Sequence[tuple[str, int]]) -> tuple[str, float]:
    """(the component with the most time over its passes, its share)."""
    sums: dict[str, int] = {}
    for name, ns in parts:
        sums[name] = sums.get(name, 0) + ns
    whole = sum(sums.values())
    if not whole:
        return OTHER, 0.0
    name = max(sums, key=lambda n: sums[n])
    return name, sums[name] / whole
