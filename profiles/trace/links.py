"""What belongs together: GPU work and the call that launched it, a backward op and the forward op it differentiates."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from profiles.trace.columns import LAUNCH_CATEGORIES, NONE, Category, Int64, Trace

NODE = "autograd::engine::evaluate_function: "
_LEAF = "AccumulateGrad"


def launch_rows(trace: Trace, gpu_rows: Int64) -> Int64:
    """Row of the runtime or driver call of each GPU event's correlation, NONE where there is none.

    Where several calls carry one correlation, the one that began first: a driver call inside a runtime call is part
    of it. Where these are of several processes, nothing tells which one launched the work: NONE.
    """
    calls = _calls(trace)
    calls = calls[~np.isin(trace.correlation[calls], mixed_correlations(trace))]
    return lookup(trace.correlation[calls], calls, trace.correlation[gpu_rows])


def mixed_correlations(trace: Trace) -> Int64:
    """Correlations that calls of more than one process carry: ranks merged into one file, each counting from 1."""
    calls = _calls(trace)
    process = processes(trace)[trace.lane[calls]]
    if not len(calls) or np.all(process == process[0]):
        return np.zeros(0, np.int64)
    correlation, code = np.unique(trace.correlation[calls].astype(np.int64), return_inverse=True)
    pairs = np.unique(code * (int(process.max()) + 1) + process)
    owners = np.bincount(pairs // (int(process.max()) + 1), minlength=len(correlation))
    mixed: Int64 = correlation[owners > 1]
    return mixed


def _calls(trace: Trace) -> Int64:
    calls = trace.rows(*LAUNCH_CATEGORIES)
    known: Int64 = calls[trace.correlation[calls] > 0]
    return known


def processes(trace: Trace) -> Int64:
    """A number of its process for each lane; lanes of one pid have one."""
    pids = {pid: number for number, pid in enumerate(dict.fromkeys(pid for pid, _ in trace.lanes))}
    return np.array([pids[pid] for pid, _ in trace.lanes], np.int64)


def lookup(keys: np.ndarray, values: Int64, wanted: np.ndarray) -> Int64:
    """The value of the first key equal to each wanted one, NONE where there is none."""
    order = np.argsort(keys, kind="stable")
    at = np.searchsorted(keys, wanted, sorter=order)
    inside = np.minimum(at, max(len(keys) - 1, 0))
    if not len(keys):
        return np.full(len(wanted), NONE, np.int64)
    found = order[inside]
    return np.where((at < len(keys)) & (keys[found] == wanted), values[found], NONE)


def forward_rows(trace: Trace, backward_rows: Int64) -> Int64:
    """Row of the latest forward op of each op's sequence number that began before it, NONE where there is none.

    A forward op has a sequence number and no forward thread; numbers are used again in every step. Every thread counts
    its own: a number that several threads of a process carry is sought on the one that ran the forward op, and has
    none where it is not known which one that was.
    """
    ops = trace.rows(Category.CPU_OP)
    ops = ops[(trace.sequence[ops] != NONE) & (trace.forward_thread[ops] <= 0)]
    process = processes(trace)
    found = _latest(trace, backward_rows, process[trace.lane[backward_rows]], ops, process[trace.lane[ops]])
    shared = np.flatnonzero(_on_several_threads(trace, backward_rows, ops) & (trace.forward_thread[backward_rows] > 0))
    if len(shared):
        asking = backward_rows[shared]
        lanes = _forward_lanes(trace, asking, ops)
        found[shared] = _latest(trace, asking, lanes, ops, trace.lane[ops].astype(np.int64))
    return found


def _latest(trace: Trace, asking: Int64, sought: Int64, ops: Int64, places: Int64) -> Int64:
    """The latest earlier op of each asking one's number, among those whose place is the one it seeks."""
    rows, place = np.concatenate([asking, ops]), np.concatenate([sought, places])
    is_op = np.arange(len(rows)) >= len(asking)
    sequence = trace.sequence[rows].astype(np.int64)
    # At the same moment the asking op goes first, so that "before" is strict.
    order = np.lexsort([is_op, trace.ts_ns[rows], sequence, place])
    latest = np.maximum.accumulate(np.where(is_op[order], np.arange(len(order)), NONE))
    found = np.where(latest != NONE, order[latest], NONE)
    known = (found != NONE) & (sequence[found] == sequence[order]) & (sequence[order] != NONE)
    known &= place[found] == place[order]
    answer = np.full(len(rows), NONE, np.int64)
    answer[order] = np.where(known, rows[found], NONE)
    return answer[: len(asking)]


def _on_several_threads(trace: Trace, asking: Int64, ops: Int64) -> NDArray[np.bool_]:
    """Whether forward ops of the asking op's number are on more than one thread of its process."""
    process, lanes = processes(trace), np.unique(trace.lane[ops])
    if len(np.unique(process[lanes])) == len(lanes):
        return np.zeros(len(asking), bool)
    rows = np.concatenate([asking, ops])
    number = np.unique(trace.sequence[rows], return_inverse=True)[1].astype(np.int64)
    key = number * (int(process.max()) + 1) + process[trace.lane[rows]]
    carried = np.unique(key[len(asking) :] * len(trace.lanes) + trace.lane[ops])
    keys, threads = np.unique(carried // len(trace.lanes), return_counts=True)
    found: NDArray[np.bool_] = np.isin(key[: len(asking)], keys[threads > 1])
    return found


def _forward_lanes(trace: Trace, asking: Int64, ops: Int64) -> Int64:
    """The lane that ran the forward op of each asking one, NONE where that is not known.

    The profiler numbers threads in its own way ('Fwd thread id'). The lane of such a number is the one whose forward
    ops have most of the names and sequence numbers that the backward ops naming it ask for, where one has the most.
    """
    named = trace.rows(Category.CPU_OP)
    named = named[(trace.sequence[named] != NONE) & (trace.forward_thread[named] > 0)]
    process, lanes = processes(trace), trace.lane[ops]
    stems = {stem: code for code, stem in enumerate(dict.fromkeys(map(_stem, trace.names)))}
    stem = np.array([stems[_stem(name)] for name in trace.names], np.int64)
    rows = np.concatenate([named, ops])
    number = np.unique(trace.sequence[rows], return_inverse=True)[1].astype(np.int64)
    item = number * len(stems) + stem[trace.name[rows]]
    thread = np.unique(trace.forward_thread[named], return_inverse=True)[1].astype(np.int64)
    keys, asked_by = np.unique(thread * len(trace.lanes) + process[trace.lane[named]], return_inverse=True)
    most, lane = np.zeros(len(keys), np.int64), np.full(len(keys), NONE, np.int64)
    for one in np.unique(lanes).tolist():
        has = np.isin(item[: len(named)], item[len(named) :][lanes == one])
        count = np.bincount(asked_by[has], minlength=len(keys))
        count[keys % len(trace.lanes) != process[one]] = 0
        lane = np.where(count > most, one, np.where(count == most, NONE, lane))
        most = np.maximum(count, most)
    # Asking ops are among the named ones.
    found: Int64 = lane[asked_by[np.searchsorted(named, asking)]]
    return found


def _stem(name: str) -> str:
    """What a forward op and its backward node have in common: 'addmm' of aten::addmm and AddmmBackward0."""
    return re.sub(r"Backward\d*$", "", name.rpartition("::")[2].rpartition(" ")[2]).replace("_", "").lower()


def leading_nodes(trace: Trace, nodes: Int64) -> Int64:
    """Per backward node, thread by thread and by start, the position of the one that it belongs to: itself, or for
    AccumulateGrad, which has no number, the numbered node before it on its thread, whose gradient it stores. NONE where
    there is none.
    """
    is_leaf = np.array([name.startswith(NODE) and name.endswith(_LEAF) for name in trace.names], bool)
    numbered = trace.sequence[nodes] != NONE
    leaf = is_leaf[trace.name[nodes]] & ~numbered
    position = np.arange(len(nodes))
    new_lane = np.diff(trace.lane[nodes].astype(np.int64), prepend=NONE) != 0
    first = np.maximum.accumulate(np.where(new_lane, position, 0))
    before = np.maximum.accumulate(np.where(numbered, position, NONE))
    return np.where(leaf, np.where(before >= first, before, NONE), position)
