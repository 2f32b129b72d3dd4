"""Why a device was idle, seen from the host: what the host did while the device waited for its next launch. In ns."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from profiles.trace.breakdown import idle_spans
from profiles.trace.columns import LAUNCH_CATEGORIES, NONE, Int64
from profiles.trace.components import INPUT, INPUT_DIST, Components
from profiles.trace.gpu import GpuWork
from profiles.trace.homes import Bools
from profiles.trace.spans import Spans, union, without
from profiles.trace.stacks import Frame, nearest

_SYNCS = ("Synchronize", "aten::item", "aten::_local_scalar_dense", "aten::nonzero")
RETURN_NS = 50_000
"""A waiting call returns this long after the device is done at most, as do calls of one op that wait in turn."""


class _Late(NamedTuple):
    """Late holes, each on the one time axis of all threads where its next launch is, and when that launch began."""

    spans: Spans
    launched_ns: Int64


class LateIdle(msgspec.Struct, frozen=True, kw_only=True):
    """Idle time whose next launch came late, and how much of it the host spent on input.

    Input counts on the thread of the next launch: a loader that works beside it delays nothing. `input_dist_ns` is
    the sending of ids to the ranks of their tables, `input_ns` the rest of it. All else is of what is left without
    input: `sync_ns` in holes that began as the launching thread waited for the device, the longest piece with its
    start and what that thread was in at its middle, and what it was in for most of the time (None where it ran
    nothing that was recorded).
    """

    late_ns: int
    input_ns: int
    input_dist_ns: int
    sync_ns: int
    syncs: int
    largest_ns: int
    largest_at_ns: int
    largest_during: str | None
    during: str | None
    during_ns: int

    @property
    def launch_ns(self) -> int:
        """Without input."""
        return self.late_ns - self.input_ns - self.input_dist_ns


def late_idle(work: GpuWork, found: Components) -> LateIdle:
    """Of the work of one device. `syncs` counts calls and ops that wait for a device."""
    held = found.stacks
    holes = _on_threads(found, *_late_spans(work))
    late = holes.spans
    undistributed = without(late, _host_spans(found, INPUT_DIST))
    rest = without(undistributed, _host_spans(found, INPUT))
    syncs = _syncs(found)
    waited = _began_waiting(found, holes, syncs, work)
    lengths = rest.ends - rest.starts
    names = _meanwhile(found, (rest.starts + rest.ends) // 2)
    largest = int(np.argmax(lengths)) if len(lengths) else NONE
    during, during_ns = _most(names, lengths)
    lane = np.searchsorted(held.shifts, rest.starts, side="right") - 1
    return LateIdle(
        late_ns=late.length,
        input_ns=undistributed.length - rest.length,
        input_dist_ns=late.length - undistributed.length,
        sync_ns=int(lengths[waited[np.searchsorted(late.starts, rest.starts, side="right") - 1]].sum()),
        syncs=len(syncs),
        largest_ns=int(lengths[largest]) if largest != NONE else 0,
        largest_at_ns=int((rest.starts - held.shifts[lane])[largest]) if largest != NONE else 0,
        largest_during=_text(found, int(names[largest])) if largest != NONE else None,
        during=_text(found, during),
        during_ns=during_ns,
    )


def _syncs(found: Components) -> Int64:
    """Rows of the calls and ops that wait for a device."""
    held = found.stacks
    calls = np.concatenate([held.trace.rows(*LAUNCH_CATEGORIES), held.rows[held.frame == Frame.OP]])
    waits = np.array([any(word in name for word in _SYNCS) for name in held.trace.names], bool)
    return calls[waits[held.trace.name[calls]]] if len(calls) else calls


def _began_waiting(found: Components, late: _Late, syncs: Int64, work: GpuWork) -> Bools:
    """Which holes began as a call that waits for the device was about to return to the thread that launches next.

    Such a call ends when the device is done, so it lies before the hole; the device is idle for want of what the
    thread could not queue meanwhile. A call before the last launch has no part in it: that launch was in time.
    """
    launched = np.sort(_on_axis(found, work.launch[work.launch != NONE]))
    starts = _on_axis(found, syncs)
    ends = starts + found.stacks.trace.dur_ns[syncs]
    order = np.argsort(ends, kind="stable")
    # Calls of a thread follow or hold each other: of those that end late enough, the first to end counts.
    earlier = np.searchsorted(launched, late.launched_ns, side="left")
    begun = np.append(0, launched)[earlier] + 1
    shifts = found.stacks.shifts
    thread = shifts[np.searchsorted(shifts, late.spans.starts, side="right") - 1]
    least = np.maximum(np.maximum(late.spans.starts - RETURN_NS, begun), thread)
    first = np.searchsorted(ends[order], least, side="left")
    never = np.iinfo(np.int64).max
    began, ended = np.append(starts[order], never)[first], np.append(ends[order], never)[first]
    return (ended <= late.launched_ns) & (began <= late.spans.starts + RETURN_NS)


def _on_axis(found: Components, rows: Int64) -> Int64:
    """When these rows began, on the one time axis of all threads."""
    trace, shifts = found.stacks.trace, found.stacks.shifts
    return trace.ts_ns[rows] + shifts[trace.lane[rows]]


def _on_threads(found: Components, late: Spans, launches: Int64) -> _Late:
    """The holes on the one time axis of all threads, each on the thread of its next launch."""
    held = found.stacks
    shifts = held.shifts[held.trace.lane[launches]]
    order = np.argsort(late.starts + shifts)
    spans = Spans((late.starts + shifts)[order], (late.ends + shifts)[order])
    return _Late(spans, _on_axis(found, launches)[order])


def _host_spans(found: Components, component: str) -> Spans:
    """When threads were in annotations and ops of a component, on the one time axis of all threads."""
    held = found.stacks
    code = found.names.index(component) if component in found.names else NONE
    mine = (found.host == code) & (held.frame != Frame.NODE)
    return union(held.nesting.starts_ns[mine], held.nesting.ends_ns[mine])


def _meanwhile(found: Components, at_ns: Int64) -> Int64:
    """Codes of what the threads were in at these moments of the one time axis, looking through what says only when."""
    held = found.stacks
    if not len(held.rows):
        return np.full(len(at_ns), NONE, np.int64)
    inside = held.nesting.innermost(at_ns)
    told = np.where(inside == NONE, NONE, nearest(held.nesting.parents, ~found.only_when)[inside])
    return np.where(told == NONE, NONE, held.trace.name[held.rows[told]].astype(np.int64))


def _most(names: Int64, lengths: Int64) -> tuple[int, int]:
    """(the code with the most time, how much)."""
    if not len(names):
        return NONE, 0
    codes, at = np.unique(names, return_inverse=True)
    spent = np.bincount(at, lengths)
    most = int(np.argmax(spent))
    return int(codes[most]), int(spent[most])


def _text(found: Components, code: int) -> str | None:
    return None if code == NONE else found.stacks.trace.names[code]


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
