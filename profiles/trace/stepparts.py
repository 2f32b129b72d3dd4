"""How the wall time of captured steps divides into components: every moment of a step is counted once. In ns.

On a trace without a GPU a moment belongs to the innermost op or annotation of the thread that carries the step; other
threads run at the same time and would count twice. With a GPU, components have the union of their GPU work, and what
the device did not work is between ops; work of two streams at once counts for both.
"""

from __future__ import annotations

import msgspec
import numpy as np

from profiles.trace.columns import NONE, Int64
from profiles.trace.components import Components, phase_of
from profiles.trace.gpu import GpuWork
from profiles.trace.homes import Bools
from profiles.trace.nesting import Nesting
from profiles.trace.rules import OTHER
from profiles.trace.spans import union
from profiles.trace.stacks import Frame, nearest
from profiles.trace.stages import STEP

BETWEEN = "between ops"
"""Time of the step outside all ops and components: dispatch and Python, or an idle device."""


class PartTimes(msgspec.Struct, frozen=True, kw_only=True):
    """One component in one pass, over all steps. `op_ns` of the wall time is inside ops, the rest between them."""

    component: str
    phase: str
    wall_ns: int
    op_ns: int


class StepParts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of `steps` steps that took `step_ns` together, the longest first."""

    steps: int
    step_ns: int
    parts: tuple[PartTimes, ...]


def step_parts(found: Components) -> StepParts:
    """Of the steps that profiles.capture marks. ValueError where the trace has none."""
    trace, held = found.stacks.trace, found.stacks
    is_step = np.isin(trace.name[held.rows], trace.codes(STEP)) & (held.frame == Frame.ANNOTATION)
    marks = np.flatnonzero(is_step & (nearest(held.nesting.parents, is_step) == np.arange(len(held.rows))))
    marks = marks[_outer(held.nesting.parents, is_step)[marks] == NONE]
    if not len(marks):
        raise ValueError(f"the trace holds no annotation named {STEP!r}: capture it with profiles.capture")
    starts, durs = trace.ts_ns[held.rows[marks]], trace.dur_ns[held.rows[marks]]
    order = np.argsort(starts, kind="stable")
    inside = Nesting(starts[order], starts[order] + durs[order])
    parts = _on_gpu(found, inside) if len(found.work) else _on_host(found, is_step)
    return StepParts(steps=len(marks), step_ns=int(durs.sum()), parts=tuple(sorted(parts, key=lambda p: -p.wall_ns)))


def _outer(parents: Int64, wanted: Bools) -> Int64:
    """For each event the nearest wanted one around it, NONE where none is."""
    around = nearest(parents, wanted)
    return np.where(parents == NONE, NONE, around[parents])


def _on_host(found: Components, is_step: Bools) -> list[PartTimes]:
    """Own times of ops and annotations inside the steps; annotations of no component are between ops."""
    held = found.stacks
    inside = nearest(held.nesting.parents, is_step) != NONE
    own, is_op = held.nesting.own_ns(), held.frame != Frame.ANNOTATION
    outside = ~is_op & (found.host == found.names.index(OTHER))
    between = PartTimes(component=BETWEEN, phase="", wall_ns=int(own[inside & outside].sum()), op_ns=0)
    keys = 2 * found.host + held.backward
    counted = inside & ~outside
    return [between, *(_part(found, key, own, counted & (keys == key), is_op) for key in np.unique(keys[counted]))]


def _part(found: Components, key: int, own: Int64, mine: Bools, is_op: Bools) -> PartTimes:
    name = found.names[int(key) // 2]
    return PartTimes(
        component=name,
        phase=phase_of(name, bool(key % 2)),
        wall_ns=int(own[mine].sum()),
        op_ns=int(own[mine & is_op].sum()),
    )


def _on_gpu(found: Components, steps: Nesting) -> list[PartTimes]:
    """GPU work launched inside the steps."""
    work, trace = found.work, found.work.trace
    at = np.where(work.launch != NONE, trace.ts_ns[work.launch], work.starts_ns)
    inside = steps.innermost(at) != NONE
    keys = 2 * found.gpu + found.gpu_backward
    parts = []
    for key in np.unique(keys[inside]).tolist():
        spent = _busy_ns(work.only(inside & (keys == key)))
        name = found.names[key // 2]
        parts.append(PartTimes(component=name, phase=phase_of(name, bool(key % 2)), wall_ns=spent, op_ns=spent))
    idle = max(int((steps.ends_ns - steps.starts_ns).sum()) - _busy_ns(work.only(inside)), 0)
    return [*parts, PartTimes(component=BETWEEN, phase="", wall_ns=idle, op_ns=0)]


def _busy_ns(work: GpuWork) -> int:
    return union(work.starts_ns, work.ends_ns).length
