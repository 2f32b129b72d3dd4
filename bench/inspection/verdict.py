"""What bounds a traced step, the numbers that say so, and the next thing to try with the most it could gain.

Decisions over plain numbers; docs/method/components.md states every threshold. A gain is a bound by Amdahl's law: the
time that would vanish if the cause vanished, as a share of the window. It promises nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

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
LEAST_KNOWN_FRAC = 0.50
"""Operators with known work must have this share of the busy time, or roofs say nothing about the whole."""
EMBEDDING_FRAC = DENSE_FRAC = 0.50
TINY_NS, TINY_FRAC = 10_000, 0.40
"""A host is bound by dispatch where ops of under 10 us, and the gaps between ops, make 40 % of the time."""
UNEVEN_BYTES, UNEVEN_FRAC = 128 * 1024, 0.25
"""From 128 KiB on glibc may return memory to the kernel after every use, which is paid when it is touched again."""
INPUT_FRAC = 0.30
DENSE = ("bottom_mlp", "top_mlp", "mlp", "interaction")


class Loss(NamedTuple):
    """GPU time lost to one cause: the verdict's kind, the share of the span, and what to try."""

    kind: str
    frac: float
    advice: str


class HostSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A trace without a GPU: own time of ops by size, gaps on the busiest thread, and uneven calls of large ops."""

    span_ns: int
    busiest_ns: int
    op_ns: int
    ops: int
    tiny_ns: int
    tiny_ops: int
    uneven_ns: int


def gpu_verdict(
    device: DeviceTimes,
    late: LateIdle,
    launches: Launches,
    components: Sequence[ComponentTimes],
    operators: Sequence[OperatorTimes],
    roofs: Roofs | None,
) -> Verdict:
    """Of the busiest device of a trace."""
    losses = _losses(device, late)
    evidence = _gpu_evidence(device, late, launches)
    worst = max(losses, key=lambda loss: loss.frac)
    if worst.frac >= LEAST_LOSS_FRAC:
        return Verdict(kind=worst.kind, evidence=evidence, advice=f"{worst.advice} {_at_most(worst.frac)}")
    return _busy_verdict(device, evidence, components, operators, roofs)


def _losses(device: DeviceTimes, late: LateIdle) -> list[Loss]:
    span = device.span_ns or 1
    launch_ns = device.gaps.host_late_ns - late.input_ns
    launch = (
        "Capture the step in a CUDA graph or fuse small operators: without the idle time before late launches"
        if late.sync_ns < launch_ns / 2
        else "Remove the calls that make the host wait for the device (.item(), copies to the host, synchronize): "
        "without the idle time before late launches"
    )
    return [
        Loss("launch-bound", launch_ns / span, launch),
        Loss(
            "input-bound",
            late.input_ns / span,
            "Prefetch batches on more loader workers and copy them from pinned memory ahead of the step: without the "
            "idle time during input",
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
        Loss(
            "copy-bound",
            device.exposed_mem_ns / span,
            "Copy from pinned memory on a stream of its own, keep temporaries on the device: with all copies hidden",
        ),
    ]


def _at_most(frac: float) -> str:
    return f"the window would be shorter by at most {frac:.1%}."


def _gpu_evidence(device: DeviceTimes, late: LateIdle, launches: Launches) -> dict[str, float | int]:
    span = device.span_ns or 1
    return {
        "span_us": device.span_ns / 1000,
        "idle_frac": device.idle_ns / span,
        "idle_host_late_frac": device.gaps.host_late_ns / span,
        "idle_input_frac": late.input_ns / span,
        "idle_in_sync_frac": late.sync_ns / span,
        "idle_queued_frac": device.gaps.queued_ns / span,
        "idle_unknown_frac": device.gaps.unknown_ns / span,
        "exposed_comm_frac": device.exposed_comm_ns / span,
        "exposed_copies_frac": device.exposed_mem_ns / span,
        "compute_frac": device.compute_ns / span,
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
    evidence: Mapping[str, float | int],
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
    return Verdict(
        kind="idle-free",
        evidence={**evidence, "largest_component_frac": frac},
        advice=f"The device is busy; work on {words(largest)} first: without it {_at_most(frac)}"
        + (" Name a machine (--machine) to see how close operators are to their roofs." if roofs is None else ""),
    )


def _roofed_verdict(
    seen: _Roofed, span_s: float, evidence: Mapping[str, float | int], operators: Sequence[OperatorTimes], roofs: Roofs
) -> Verdict:
    memory = seen.memory_s >= seen.taken_s / 2
    slack = [(o, o.known_ns * 1e-9 - s) for o in operators if (s := roofs.seconds(o)) is not None]
    worst, lost_s = max(slack, key=lambda pair: pair[1])
    gain = max(lost_s, 0.0) / (span_s or 1)
    return Verdict(
        kind="bandwidth-bound" if memory else "compute-bound",
        evidence={**evidence, "fraction_of_roof_frac": seen.shortest_s / seen.taken_s},
        advice=f"{worst.name} in {words(worst.component)} is furthest from its roof on {roofs.name}: at its roof "
        f"{_at_most(gain)}",
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


def host_verdict(seen: HostSeen, components: Sequence[ComponentTimes]) -> Verdict:
    """Of a trace without a GPU."""
    whole = sum(t.cpu_ns for t in components) or 1
    shares: dict[str, float] = {}
    for t in components:
        shares[t.component] = shares.get(t.component, 0.0) + t.cpu_ns / whole
    gaps_ns = max(seen.span_ns - seen.busiest_ns, 0)
    dispatch = (seen.tiny_ns + gaps_ns) / (seen.span_ns or 1)
    uneven = seen.uneven_ns / whole
    evidence: dict[str, float | int] = {
        "span_us": seen.span_ns / 1000,
        "ops_count": seen.ops,
        "tiny_ops_count": seen.tiny_ops,
        "tiny_ops_frac": seen.tiny_ns / whole,
        "gaps_frac": gaps_ns / (seen.span_ns or 1),
        "uneven_large_ops_frac": uneven,
        **{f"{name.replace(' ', '_')}_frac": share for name, share in sorted(shares.items(), key=lambda i: -i[1])[:6]},
    }
    kind, advice, gain = _host_case(shares, dispatch, uneven)
    return Verdict(kind=kind, evidence=evidence, advice=f"{advice} {_at_most(min(gain, 1.0))}")


def _host_case(shares: Mapping[str, float], dispatch: float, uneven: float) -> tuple[str, str, float]:
    """(kind, advice, gain at most), the first that holds."""
    dense = sum(shares.get(name, 0.0) for name in DENSE)
    embedding, from_input = shares.get("embedding", 0.0), shares.get("input", 0.0)
    largest = max(shares, key=lambda n: shares[n]) if shares else OTHER
    cases = (
        (
            dispatch >= TINY_FRAC,
            "dispatch-bound",
            "Fuse small operators (torch.compile, a table-batched embedding) or raise the batch size: without tiny "
            "operators and the gaps between them",
            dispatch,
        ),
        (
            uneven >= UNEVEN_FRAC,
            "allocation-heavy",
            "Calls of one operator with equal shapes take very different times, as when large temporaries are faulted "
            "in again: pin the allocator (docs/method/measuring.md); with each as fast as its fastest call",
            uneven,
        ),
        (
            from_input >= INPUT_FRAC,
            "input-bound",
            "Load and convert batches ahead of the step, on other threads: without it",
            from_input,
        ),
        (
            embedding >= EMBEDDING_FRAC,
            "embedding-bound",
            "Try a table-batched backend, huge pages for the tables or a narrower row type: without the embedding",
            embedding,
        ),
        (
            dense >= DENSE_FRAC,
            "mlp-bound",
            "Try more threads, bfloat16 or a narrower MLP: without the dense layers and the interaction",
            dense,
        ),
        (
            shares.get("optimizer", 0.0) >= DENSE_FRAC,
            "optimizer-bound",
            "Use a fused or sparse optimizer, which touches only the rows of the batch: without the update",
            shares.get("optimizer", 0.0),
        ),
    )
    for holds, kind, advice, gain in cases:
        if holds:
            return kind, advice, gain
    return "mixed", f"No part dominates; the largest is {words(largest)}: without it", shares.get(largest, 0.0)
