"""Inspections with the components of their events -> the plain model of a page. Pure.

Of several ranks all devices are shown; components, kernels and what follows are of the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.inspection import model_result, page
from bench.inspection.converting import us
from bench.inspection.model_tables import operator_names
from bench.inspection.page_lanes import make_timeline
from bench.inspection.quality import faults
from bench.inspection.result import Inspection, Kernel
from bench.reporting.format import count
from profiles.trace.columns import NONE
from profiles.trace.components import Components
from profiles.trace.gpu import GpuWork
from profiles.trace.launching import queue, spread
from profiles.trace.rules import OTHER
from profiles.trace.stacks import Frame


class Inspected(NamedTuple):
    """One trace: what is said of it, and the component of each of its events (the whole trace, whatever window)."""

    inspection: Inspection
    parts: Components


def page_model(
    found: Sequence[Inspected],
    ranks: model_result.Ranks | None = None,
    *,
    title: str = "",
    subtitle: str = "",
    reasons: Mapping[str, str] | None = None,
    provenance: str = "",
) -> page.PageModel:
    """The page of one trace, or of several in order of rank (at least one)."""
    first, names = found[0], _names(found)
    one = first.inspection
    return page.PageModel(
        title=title or _title(found),
        subtitle=subtitle or _subtitle(found),
        window=_window(one),
        verdict=_verdict(one, ranks),
        defects=tuple(_defects(found, names)),
        devices=tuple(d for name, f in zip(names, found, strict=True) for d in _devices(f.inspection, name)),
        components=tuple(_components(one)),
        coverage_frac=one.coverage_frac,
        kernels=tuple(_kernels(first)),
        roofline=_roofline(one),
        memory=tuple(_memory(one.memory)),
        copies=tuple(_copies(one)),
        queues=tuple(_queues(first.parts.work)),
        ranks=tuple(_rank(r) for r in ranks.ranks) if ranks else (),
        timeline=make_timeline([(name, f.parts) for name, f in zip(names, found, strict=True)]),
        reasons={**_reasons(found, names), **(reasons or {})},
        provenance=provenance,
    )


def _names(found: Sequence[Inspected]) -> list[str]:
    """'' for a trace alone, else 'rank 3', or the file's name where the trace does not tell its rank."""
    if len(found) == 1:
        return [""]
    given = [f.inspection.rank for f in found]
    if None in given or len(set(given)) < len(given):
        return [Path(f.inspection.file).name for f in found]
    return [f"rank {rank}" for rank in given]


def _title(found: Sequence[Inspected]) -> str:
    path = Path(found[0].inspection.file)
    return path.name if len(found) == 1 else f"{len(found)} traces of {path.absolute().parent.name}"


def _subtitle(found: Sequence[Inspected]) -> str:
    """Devices and events."""
    devices = [d.name or "a GPU" for f in found for d in f.inspection.devices.values()]
    counted = [
        f"{devices.count(name)} × {name}" if devices.count(name) > 1 else name for name in dict.fromkeys(devices)
    ]
    events = sum(f.inspection.quality.events for f in found)
    return f"{', '.join(counted) or 'no GPU work'} · {count(events)} events"


def _window(found: Inspection) -> str:
    seen = found.window
    if seen.start_us is None or seen.end_us is None:
        return "the whole trace"
    steps = "1 step" if seen.steps == 1 else f"{seen.steps} steps"
    first_and_last = " without the first and last" if seen.policy == "steps-without-first-and-last" else ""
    return f"figures of {steps}{first_and_last}, timeline and memory of the whole trace"


def _verdict(found: Inspection, ranks: model_result.Ranks | None) -> page.Verdict:
    told = [ranks.summary] if ranks else []
    if found.verdict is None:
        return page.Verdict(kind="", advice=" ".join(["Nothing with a duration to judge.", *told]))
    advice = " ".join([found.verdict.advice, *told])
    # What there is none of is in --json; here it would hide what there is.
    shown = {name: value for name, value in found.verdict.evidence.items() if isinstance(value, str) or round(value, 3)}
    return page.Verdict(kind=found.verdict.kind, advice=advice, evidence=shown)


def _defects(found: Sequence[Inspected], names: Sequence[str]) -> Iterable[str]:
    for name, one in zip(names, found, strict=True):
        for text in faults(one.inspection.quality):
            yield f"{name}: {text}" if name else text


def _devices(found: Inspection, name: str) -> Iterable[page.Device]:
    for pid, d in found.devices.items():
        model = f" ({d.name})" if d.name else ""
        causes = d.idle_causes_us
        yield page.Device(
            name=f"{name} · GPU {pid}" if name else f"GPU {pid}{model}",
            span_us=d.span_us,
            busy_us=d.busy_us,
            compute_us=d.compute_us,
            comm_us=d.comm_us,
            mem_us=d.mem_us,
            exposed_comm_us=d.exposed_comm_us,
            exposed_mem_us=d.exposed_mem_us,
            idle_causes_us={"host_late": causes.host_late, "queued": causes.queued, "unknown": causes.unknown},
        )


def _components(found: Inspection) -> Iterable[page.Component]:
    for c in found.components:
        yield page.Component(
            component=c.component,
            phase=c.phase,
            gpu_us_sum=c.gpu_us_sum,
            gpu_us_wall=c.gpu_us_wall,
            cpu_us=c.cpu_us,
        )


def _kernels(found: Inspected) -> Iterable[page.Kernel]:
    """GPU work by name, or host ops where there is none, each with the component that has most of its time."""
    one, parts = found
    trace = parts.stacks.trace
    if one.kernels:
        homes = _homes(parts, trace.name[parts.work.rows], parts.gpu, parts.work.durs_ns)
        return [_kernel(k, homes) for k in one.kernels]
    ops = parts.stacks.frame != Frame.ANNOTATION
    homes = _homes(parts, trace.name[parts.stacks.rows[ops]], parts.host[ops], parts.own_ns[ops])
    return [_kernel(k, homes) for k in one.ops]


def _homes(parts: Components, names: np.ndarray, component: np.ndarray, spent_ns: np.ndarray) -> dict[str, str]:
    """By event name, the component with most of the time."""
    if not len(names):
        return {}
    codes, at = np.unique(names, return_inverse=True)
    sums = np.zeros((len(codes), len(parts.names)), np.int64)
    np.add.at(sums, (at, component), spent_ns)
    held = parts.stacks.trace.names
    return {held[code]: parts.names[int(row.argmax())] for code, row in zip(codes.tolist(), sums, strict=True)}


def _kernel(found: Kernel, homes: Mapping[str, str]) -> page.Kernel:
    return page.Kernel(
        name=found.name,
        component=homes.get(found.name, OTHER),
        n=found.n,
        sum_us=found.sum_us,
        mean_us=found.mean_us,
        median_us=found.median_us,
        sd_us=found.sd_us,
    )


def _roofline(found: Inspection) -> page.Roofline | None:
    """Operators whose FLOPs and bytes their shapes tell; without a named machine there are no ceilings."""
    points = tuple(
        page.RoofPoint(
            name=f"{name} (backward)" if o.phase == "backward" else name,
            component=o.component,
            intensity=o.intensity,
            flops_per_s=o.flops_per_s,
            sum_us=o.sum_us,
        )
        for name, o in zip(operator_names(found.operators), found.operators, strict=True)
        if o.intensity and o.flops_per_s
    )
    if not points:
        return None
    machine = found.machine
    return page.Roofline(
        points=points,
        bytes_per_s={"memory": machine.bytes_per_s} if machine else {},
        flops_per_s=dict(machine.flops_per_s) if machine else {},
        source=f"{machine.name}, {machine.source}" if machine else "none, as no machine was named (--machine)",
    )


def _memory(found: Sequence[model_result.Memory]) -> Iterable[page.MemoryCurve]:
    for m in found:
        device = f"{m.device}, from its first event on" if m.from_zero else m.device
        yield page.MemoryCurve(device=device, time_us=m.time_us, held_bytes=tuple(float(b) for b in m.held_bytes))


def _copies(found: Inspection) -> Iterable[page.Copy]:
    for direction, c in sorted(found.copies.items(), key=lambda item: -item[1].sum_us):
        yield page.Copy(direction=direction, n=c.n, sum_us=c.sum_us, copied_bytes=c.bytes)


def _queues(work: GpuWork) -> Iterable[page.Queue]:
    """Of each stream whose launches are known."""
    many = len(work.devices) > 1
    for number, pid in enumerate(work.devices):
        for stream in np.unique(work.stream[work.device == number]).tolist():
            mine = work.only((work.device == number) & (work.stream == stream) & (work.launch != NONE))
            waiting = queue(mine)
            if waiting is None:
                continue
            delay = spread(mine.starts_ns - mine.trace.end_ns[mine.launch])
            yield page.Queue(
                stream=f"GPU {pid}, stream {stream}" if many else f"stream {stream}",
                n=delay.n,
                delay_median_us=us(delay.p50_ns),
                delay_p90_us=us(delay.p90_ns),
                queue_mean=waiting.mean,
                queue_max=waiting.most,
            )


def _rank(found: model_result.Rank) -> page.Rank:
    return page.Rank(
        rank=str(found.rank) if found.rank is not None else Path(found.file).name,
        span_us=found.span_us,
        busy_us=found.busy_us,
        compute_us=found.compute_us,
        comm_us=found.comm_us,
        exposed_comm_us=found.exposed_comm_us,
        waiting_us=found.waiting_us,
        transfer_us=found.transfer_us,
    )


def _reasons(found: Sequence[Inspected], names: Sequence[str]) -> dict[str, str]:
    """Why a section that a reader would look for is missing or of one rank, where that differs from the usual."""
    told = {}
    one, trace = found[0].inspection, found[0].parts.stacks.trace
    if (trace.inputs != NONE).any():
        told["roofline"] = "Roofline: shapes are recorded, but of no operator whose FLOPs and bytes they tell."
    if one.devices and (one.launches is None or not one.launches.pairs):
        told["launches"] = (
            "Launches: no launch call of a GPU event is in the trace, so the causes of idleness are unknown."
        )
    if not one.devices:
        told["devices"] = "GPU: no GPU event in this trace; figures are of the host's threads."
    if len(found) > 1:
        told["ranks"] = (
            f"Other ranks: verdict, components, kernels, roofline, memory, copies and launches are of {names[0]}; "
            f"inspect --json has those of every rank."
        )
    return told
