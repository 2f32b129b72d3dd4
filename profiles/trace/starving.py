"""Why a device was idle, seen from the host: what the host did while the device waited for its next launch. In ns."""

from __future__ import annotations

import msgspec
import numpy as np

from profiles.trace.breakdown import idle_spans
from profiles.trace.columns import LAUNCH_CATEGORIES, NONE, Int64
from profiles.trace.components import Components
from profiles.trace.gpu import GpuWork
from profiles.trace.spans import Spans, overlap, union
from profiles.trace.stacks import Frame

_SYNCS = ("Synchronize", "aten::item", "aten::_local_scalar_dense", "aten::nonzero")


class LateIdle(msgspec.Struct, frozen=True, kw_only=True):
    """Idle time whose next launch came late, and how much of it the host spent on input or in waiting calls.

    `largest_ns` is the longest hole, which began at `largest_at_ns`. `during` is what the launching thread was in at
    the middle of most of that time, `during_ns` how much; None where it ran nothing that was recorded.
    """

    late_ns: int
    input_ns: int
    sync_ns: int
    syncs: int
    largest_ns: int
    largest_at_ns: int
    during: str | None
    during_ns: int


def late_idle(work: GpuWork, found: Components) -> LateIdle:
    """Of the work of one device. `syncs` counts calls and ops that wait for a device."""
    late, launches = _late_spans(work)
    held = found.stacks
    trace = held.trace
    is_input = found.host == found.names.index("input") if "input" in found.names else np.zeros(len(held.rows), bool)
    rows = held.rows[is_input & ((held.frame == Frame.ANNOTATION) | (held.frame == Frame.OP))]
    calls = np.concatenate([trace.rows(*LAUNCH_CATEGORIES), held.rows[held.frame == Frame.OP]])
    waits = np.array([any(word in name for word in _SYNCS) for name in trace.names], bool)
    syncs = calls[waits[trace.name[calls]]] if len(calls) else calls
    lengths = late.ends - late.starts
    largest = int(np.argmax(lengths)) if len(lengths) else NONE
    during, during_ns = _during(found, late, launches)
    return LateIdle(
        late_ns=late.length,
        input_ns=overlap(late, _spans(trace.ts_ns[rows], trace.dur_ns[rows])),
        sync_ns=overlap(late, _spans(trace.ts_ns[syncs], trace.dur_ns[syncs])),
        syncs=len(syncs),
        largest_ns=int(lengths[largest]) if largest != NONE else 0,
        largest_at_ns=int(late.starts[largest]) if largest != NONE else 0,
        during=during,
        during_ns=during_ns,
    )


def _during(found: Components, late: Spans, launches: Int64) -> tuple[str | None, int]:
    """(what the launching thread was in for most of the late time, how long of it), by the middle of each hole."""
    held = found.stacks
    if not len(launches) or not len(held.rows):
        return None, late.length
    middle = (late.starts + late.ends) // 2 + held.shifts[held.trace.lane[launches]]
    inside = held.nesting.innermost(middle)
    names = np.where(inside == NONE, NONE, held.trace.name[held.rows[inside]])
    codes, at = np.unique(names, return_inverse=True)
    spent = np.bincount(at, late.ends - late.starts)
    most = int(np.argmax(spent))
    return (held.trace.names[codes[most]] if codes[most] != NONE else None), int(spent[most])


def _spans(starts: Int64, durs: Int64) -> Spans:
    return union(starts, starts + durs)


def _late_spans(work: GpuWork) -> tuple[Spans, Int64]:
    """(holes of the device whose closing event was launched after they began, those launches)."""
    holes = idle_spans(work)
    if not len(holes.starts):
        return holes, np.zeros(0, np.int64)
    closing = work.launch[np.searchsorted(work.starts_ns, holes.ends)]
    known = closing != NONE
    late = np.zeros(len(closing), bool)
    late[known] = work.trace.ts_ns[closing[known]] > holes.starts[known]
    return Spans(holes.starts[late], holes.ends[late]), closing[late]
