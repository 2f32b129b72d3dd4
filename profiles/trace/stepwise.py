"""What each step of a trace took, part by part, and what it counted: the material of a comparison. Times in ns.

GPU work belongs to the step that launched it (that it began in, where no launch is known), host ops to the step they
began in. A trace without annotated steps is one step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from profiles.trace.columns import LAUNCH_CATEGORIES, NONE, Int64
from profiles.trace.components import Components, phase_of
from profiles.trace.gpu import GpuWork, Kind
from profiles.trace.nesting import Nesting
from profiles.trace.spans import union
from profiles.trace.stacks import Frame
from profiles.trace.windows import Step

WAITING_KINDS = (Kind.COMM, Kind.MEMCPY)
"""GPU work whose length depends on other ranks or on the host."""
_SYNCS = ("Synchronize", "hipMemcpyWithStream")
Part = tuple[str, str]


@dataclass(frozen=True, eq=False, slots=True)
class StepProfile:
    """Per step, in order. `parts`: GPU time of each (component, pass), or own time of host ops where there is no GPU;
    `waiting_frac`: what share of it is communication and copies. `step_ns` is wall time on the host.
    """

    numbers: tuple[int, ...]
    step_ns: Int64
    busy_ns: Int64 | None
    parts: dict[Part, Int64]
    waiting_frac: dict[Part, float]
    kernels: dict[str, Int64]
    counters: dict[str, Int64]
    annotated: bool

    @property
    def steps(self) -> int:
        """How many."""
        return len(self.step_ns)


def step_profile(found: Components, steps: tuple[Step, ...]) -> StepProfile:
    """The profile of a trace; `steps` as windows.find_steps gives them."""
    annotated = bool(steps)
    trace = found.stacks.trace
    if not steps:
        end = int(trace.end_ns.max()) + 1 if len(trace) else 1
        steps = (Step(0, 0, end),)
    starts = np.array([s.start_ns for s in steps], np.int64)
    ends = np.array([s.end_ns for s in steps], np.int64)
    within = Nesting(starts, ends)
    work = found.work
    known = work.launch != NONE
    launched = work.starts_ns.copy()
    launched[known] = trace.ts_ns[work.launch[known]]
    of_work = within.innermost(launched) if len(work) else np.zeros(0, np.int64)
    of_host = within.innermost(trace.ts_ns[found.stacks.rows])
    on_gpu = bool(len(work))
    parts, waiting = _gpu_parts(found, of_work, len(steps)) if on_gpu else (_host_parts(found, of_host, len(steps)), {})
    return StepProfile(
        numbers=tuple(s.number for s in steps),
        step_ns=ends - starts,
        busy_ns=_busy(work, of_work, len(steps)) if on_gpu else None,
        parts=parts,
        waiting_frac=waiting,
        kernels=_kernels(work, of_work, len(steps)),
        counters=_counters(found, within, of_work, of_host, len(steps)),
        annotated=annotated,
    )


def _sums(step: Int64, values: Int64, steps: int) -> Int64:
    inside = step != NONE
    return np.bincount(step[inside], values[inside], minlength=steps).astype(np.int64)


def _gpu_parts(found: Components, step: Int64, steps: int) -> tuple[dict[Part, Int64], dict[Part, float]]:
    work, parts, waiting = found.work, dict[Part, Int64](), dict[Part, float]()
    waits = np.isin(work.kind, WAITING_KINDS)
    keys = 2 * found.gpu + found.gpu_backward
    for key in np.unique(keys).tolist():
        mine = keys == key
        name = found.names[key // 2]
        part = (name, phase_of(name, bool(key % 2)))
        durs = work.durs_ns[mine]
        parts[part] = _sums(step[mine], durs, steps)
        waiting[part] = float(durs[waits[mine]].sum() / durs.sum()) if durs.sum() else 0.0
    return parts, waiting


def _host_parts(found: Components, step: Int64, steps: int) -> dict[Part, Int64]:
    keys = 2 * found.host + found.stacks.backward
    parts = {}
    for key in np.unique(keys[found.own_ns > 0]).tolist():
        name = found.names[key // 2]
        parts[name, phase_of(name, bool(key % 2))] = _sums(step[keys == key], found.own_ns[keys == key], steps)
    return parts


def _busy(work: GpuWork, step: Int64, steps: int) -> Int64:
    lengths = [union(work.starts_ns[step == n], work.ends_ns[step == n]).length for n in range(steps)]
    return np.array(lengths, np.int64)


def _kernels(work: GpuWork, step: Int64, steps: int) -> dict[str, Int64]:
    """By name."""
    names = work.trace.name[work.rows].astype(np.int64)
    codes, at = np.unique(names, return_inverse=True)
    inside = step != NONE
    flat = np.bincount(at[inside] * steps + step[inside], work.durs_ns[inside], minlength=len(codes) * steps)
    table = flat.astype(np.int64).reshape(len(codes), steps)
    return {work.trace.names[code]: row for code, row in zip(codes.tolist(), table, strict=True)}


def _counters(found: Components, within: Nesting, of_work: Int64, of_host: Int64, steps: int) -> dict[str, Int64]:
    """Whole numbers: launches, GPU events, copies and their bytes, syncs, ops. Sizes follow the data of the step."""
    trace, work = found.stacks.trace, found.work
    calls = trace.rows(*LAUNCH_CATEGORIES)
    is_sync = np.array([any(word in name for word in _SYNCS) for name in trace.names], bool)
    syncs = calls[is_sync[trace.name[calls]]] if len(calls) else calls
    launches = np.unique(work.launch[work.launch != NONE])
    copies = work.kind == Kind.MEMCPY
    moved = work.trace.bytes[work.rows].astype(np.int64)
    ops = found.stacks.frame != Frame.ANNOTATION
    counted = {
        "ops": _count(of_host[ops], steps),
        "launches": _count(within.innermost(trace.ts_ns[launches]), steps),
        "gpu_events": _count(of_work, steps),
        "copies": _count(of_work[copies], steps),
        "syncs": _count(within.innermost(trace.ts_ns[syncs]), steps),
        "collectives": _count(of_work[work.kind == Kind.COMM], steps),
    }
    if copies.any() and (moved[copies] != NONE).all():
        counted["copied_bytes"] = _sums(of_work[copies], moved[copies], steps)
    grown = trace.memory.bytes > 0
    if grown.any():
        at = within.innermost(trace.memory.ts_ns[grown])
        counted["allocated_bytes"] = _sums(at, trace.memory.bytes[grown], steps)
        counted["allocations"] = _count(at, steps)
    return counted


def _count(step: Int64, steps: int) -> Int64:
    return np.bincount(step[step != NONE], minlength=steps).astype(np.int64)
