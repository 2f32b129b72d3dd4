"""Why a device was idle, seen from the host: what the host did while the device waited for its next launch. In ns."""

from __future__ import annotations

import msgspec
import numpy as np

from profiles.trace.breakdown import idle_spans
from profiles.trace.columns import LAUNCH_CATEGORIES, NONE, Int64
from profiles.trace.components import INPUT, INPUT_DIST, Components
from profiles.trace.gpu import GpuWork
from profiles.trace.spans import Spans, overlap, union, without
from profiles.trace.stacks import Frame

_SYNCS = ("Synchronize", "aten::item", "aten::_local_scalar_dense", "aten::nonzero")


class LateIdle(msgspec.Struct, frozen=True, kw_only=True):
    """Idle time whose next launch came late, and how much of it the host spent on input or in waiting calls.

    Input counts on the thread of the next launch: a loader that works beside it delays nothing. `input_dist_ns` is
    the sending of ids to the ranks of their tables, `input_ns` the rest of it.
    `largest_ns` is the longest hole, which began at `largest_at_ns`. `during` is what the launching thread was in at
    the middle of most of that time, `during_ns` how much; None where it ran nothing that was recorded.
    """

    late_ns: int
    input_ns: int
    input_dist_ns: int
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
    on_threads = _on_threads(found, late, launches)
    undistributed = without(on_threads, _host_spans(found, INPUT_DIST))
    rest = without(undistributed, _host_spans(found, INPUT))
    calls = np.concatenate([trace.rows(*LAUNCH_CATEGORIES), held.rows[held.frame == Frame.OP]])
    waits = np.array([any(word in name for word in _SYNCS) for name in trace.names], bool)
    syncs = calls[waits[trace.name[calls]]] if len(calls) else calls
    lengths = late.ends - late.starts
    largest = int(np.argmax(lengths)) if len(lengths) else NONE
    during, during_ns = _during(found, late, launches)
    return LateIdle(
        late_ns=late.length,
        input_ns=undistributed.length - rest.length,
        input_dist_ns=on_threads.length - undistributed.length,
        sync_ns=overlap(late, _spans(trace.ts_ns[syncs], trace.dur_ns[syncs])),
        syncs=len(syncs),
        largest_ns=int(lengths[largest]) if largest != NONE else 0,
        largest_at_ns=int(late.starts[largest]) if largest != NONE else 0,
        during=during,
        during_ns=during_ns,
    )


def _on_threads(found: Components, late: Spans, launches: Int64) -> Spans:
    """The holes on the one time axis of all threads, each on the thread of its next launch."""
    held = found.stacks
    shifts = held.shifts[held.trace.lane[launches]]
    order = np.argsort(late.starts + shifts)
    return Spans((late.starts + shifts)[order], (late.ends + shifts)[order])


def _host_spans(found: Components, component: str) -> Spans:
    """When threads were in annotations and ops of a component, on the one time axis of all threads."""
    held = found.stacks
    code = found.names.index(component) if component in found.names else NONE
    mine = (found.host == code) & (held.frame != Frame.NODE)
    return union(held.nesting.starts_ns[mine], held.nesting.ends_ns[mine])


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
