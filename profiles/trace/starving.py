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
from profiles.trace.windows import Window

_SYNCS = ("Synchronize", "hipMemcpyWithStream", "aten::item", "aten::_local_scalar_dense", "aten::nonzero")
RETURN_NS = 50_000
"""A waiting call returns this long after the device is done at most, as do calls of one op that wait in turn."""


class _Holes(NamedTuple):
    """Holes of the device in the window; `launch` is the row of the call whose work ends each, NONE for none known."""

    spans: Spans
    launch: Int64
    launched_ns: Int64

    def only(self, wanted: Bools) -> _Holes:
        """Some of them."""
        spans = Spans(self.spans.starts[wanted], self.spans.ends[wanted])
        return _Holes(spans, self.launch[wanted], self.launched_ns[wanted])


class _Late(NamedTuple):
    """Late holes, each on the one time axis of all threads where its next launch is, and when that launch began."""

    spans: Spans
    launched_ns: Int64


class IdleTime(msgspec.Struct, frozen=True, kw_only=True):
    """Idle time of one device over the window by cause, and where the launch came late what the host did meanwhile.

    The window is that of the device: from its first to its last work, and with a window of steps on to their ends
    where the device was idle there. Late, queued and unknown are the causes of docs/method/traces.md.
    Input counts on the thread of the next launch: a loader that works beside it delays nothing. `input_dist_ns` is
    the sending of ids to the ranks of their tables, `input_ns` the rest of it. All else is of what is left without
    input: `sync_ns` in holes that began as the launching thread waited for the device, the longest piece with its
    start and what that thread was in at its middle, and what it was in for most of the time (None where it ran
    nothing that was recorded).
    """

    window_ns: int
    late_ns: int
    queued_ns: int
    unknown_ns: int
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
    def idle_ns(self) -> int:
        """Of all causes."""
        return self.late_ns + self.queued_ns + self.unknown_ns

    @property
    def launch_ns(self) -> int:
        """Late without input."""
        return self.late_ns - self.input_ns - self.input_dist_ns


def idle_time(work: GpuWork, found: Components, whole: GpuWork, within: Window) -> IdleTime:
    """Of the work of one device inside a window; `whole` is all work of the device.

    `syncs` counts calls and ops that wait for a device.
    """
    held = found.stacks
    period = _period(work, whole, within)
    all_holes = _holes(work, whole, period)
    known = all_holes.launch != NONE
    is_late = known & (all_holes.launched_ns > all_holes.spans.starts)
    holes = _on_threads(found, all_holes.only(is_late))
    late = holes.spans
    undistributed = without(late, _host_spans(found, INPUT_DIST))
    rest = without(undistributed, _host_spans(found, INPUT))
    syncs = _syncs(found, within)
    waited = _began_waiting(found, holes, syncs, work)
    lengths = rest.ends - rest.starts
    names = _meanwhile(found, (rest.starts + rest.ends) // 2)
    largest = int(np.argmax(lengths)) if len(lengths) else NONE
    during, during_ns = _most(names, lengths)
    lane = np.searchsorted(held.shifts, rest.starts, side="right") - 1
    return IdleTime(
        window_ns=period.end_ns - period.start_ns,
        late_ns=late.length,
        queued_ns=all_holes.only(known & ~is_late).spans.length,
        unknown_ns=all_holes.only(~known).spans.length,
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


class _Period(NamedTuple):
    """The window of the device."""

    start_ns: int
    end_ns: int


def _period(work: GpuWork, whole: GpuWork, within: Window) -> _Period:
    """Work launched in the window may run past its end, and what was launched before it may run past its start."""
    first, last = int(work.starts_ns[0]), int(work.ends_ns.max())
    if within.start_ns is None or within.end_ns is None:
        return _Period(first, last)
    free = int(whole.ends_ns[whole.starts_ns < first].max(initial=within.start_ns))
    return _Period(min(free, first), max(within.end_ns, last))


def _holes(work: GpuWork, whole: GpuWork, period: _Period) -> _Holes:
    """Also before the first work and after the last. After that nothing was launched before the window's end."""
    inner, last = idle_spans(work), work.ends_ns.max(keepdims=True)
    starts = np.concatenate([np.array([period.start_ns], np.int64), inner.starts, last])
    ends = np.concatenate([work.starts_ns[:1], inner.ends, np.array([period.end_ns], np.int64)])
    after = np.concatenate([whole.launch[whole.starts_ns >= last], work.launch[::-1]])
    after = np.append(after[after != NONE], NONE)[:1]
    closing = np.concatenate([work.launch[:1], work.launch[np.searchsorted(work.starts_ns, inner.ends)], after])
    launched = np.where(closing == NONE, NONE, work.trace.ts_ns[closing])
    launched[-1] = period.end_ns
    return _Holes(Spans(starts, ends), closing, launched).only(ends > starts)


def _syncs(found: Components, within: Window) -> Int64:
    """Rows of the calls and ops that wait for a device."""
    held = found.stacks
    calls = np.concatenate([held.trace.rows(*LAUNCH_CATEGORIES), held.rows[held.frame == Frame.OP]])
    waits = np.array([any(word in name for word in _SYNCS) for name in held.trace.names], bool)
    return calls[waits[held.trace.name[calls]] & within.holds(held.trace.ts_ns[calls])] if len(calls) else calls


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
    waited: Bools = (ended <= late.launched_ns) & (began <= late.spans.starts + RETURN_NS)
    return waited


def _on_axis(found: Components, rows: Int64) -> Int64:
    """When these rows began, on the one time axis of all threads."""
    trace, shifts = found.stacks.trace, found.stacks.shifts
    return trace.ts_ns[rows] + shifts[trace.lane[rows]]


def _on_threads(found: Components, late: _Holes) -> _Late:
    """The holes on the one time axis of all threads, each on the thread of its next launch."""
    held = found.stacks
    shifts = held.shifts[held.trace.lane[late.launch]]
    order = np.argsort(late.spans.starts + shifts)
    spans = Spans((late.spans.starts + shifts)[order], (late.spans.ends + shifts)[order])
    return _Late(spans, (late.launched_ns + shifts)[order])


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
