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
    """Idle time whose next launch came late, and how much of it the host spent on input or in waiting calls."""

    late_ns: int
    input_ns: int
    sync_ns: int
    syncs: int


def late_idle(work: GpuWork, found: Components) -> LateIdle:
    """Of the work of one device. `syncs` counts calls and ops that wait for a device."""
    late = _late_spans(work)
    held = found.stacks
    trace = held.trace
    is_input = found.host == found.names.index("input") if "input" in found.names else np.zeros(len(held.rows), bool)
    rows = held.rows[is_input & ((held.frame == Frame.ANNOTATION) | (held.frame == Frame.OP))]
    calls = np.concatenate([trace.rows(*LAUNCH_CATEGORIES), held.rows[held.frame == Frame.OP]])
    waits = np.array([any(word in name for word in _SYNCS) for name in trace.names], bool)
    syncs = calls[waits[trace.name[calls]]] if len(calls) else calls
    return LateIdle(
        late_ns=late.length,
        input_ns=overlap(late, _spans(trace.ts_ns[rows], trace.dur_ns[rows])),
        sync_ns=overlap(late, _spans(trace.ts_ns[syncs], trace.dur_ns[syncs])),
        syncs=len(syncs),
    )


def _spans(starts: Int64, durs: Int64) -> Spans:
    return union(starts, starts + durs)


def _late_spans(work: GpuWork) -> Spans:
    """Holes of the device whose closing event was launched after they began."""
    holes = idle_spans(work)
    if not len(holes.starts):
        return holes
    closing = work.launch[np.searchsorted(work.starts_ns, holes.ends)]
    known = closing != NONE
    late = np.zeros(len(closing), bool)
    late[known] = work.trace.ts_ns[closing[known]] > holes.starts[known]
    return Spans(holes.starts[late], holes.ends[late])
