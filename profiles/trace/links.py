"""What belongs together: GPU work and the call that launched it, a backward op and the forward op it differentiates."""

from __future__ import annotations

import numpy as np

from profiles.trace.columns import LAUNCH_CATEGORIES, NONE, Category, Int64, Trace


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
    return calls[trace.correlation[calls] > 0]


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

    A forward op has a sequence number and no forward thread; numbers are used again in every step.
    """
    ops = trace.rows(Category.CPU_OP)
    ops = ops[(trace.sequence[ops] != NONE) & (trace.forward_thread[ops] <= 0)]
    rows = np.concatenate([backward_rows, ops])
    is_op = np.arange(len(rows)) >= len(backward_rows)
    sequence = trace.sequence[rows].astype(np.int64)
    # At the same moment the asking op goes first, so that "before" is strict.
    order = np.lexsort([is_op, trace.ts_ns[rows], sequence])
    latest = np.maximum.accumulate(np.where(is_op[order], np.arange(len(order)), NONE))
    found = np.where(latest != NONE, order[latest], NONE)
    known = (found != NONE) & (sequence[found] == sequence[order]) & (sequence[order] != NONE)
    answer = np.full(len(rows), NONE, np.int64)
    answer[order] = np.where(known, rows[found], NONE)
    return answer[: len(backward_rows)]
