"""Ops and annotations of the host's threads as stacks: what is around a moment, what a backward op differentiates."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from profiles.trace.columns import NONE, Category, Int64, Trace
from profiles.trace.fields import Interned
from profiles.trace.links import NODE, forward_rows, leading_nodes
from profiles.trace.nesting import Nesting

_OLD_MARKS = ("ProfilerStep", "Optimizer.", "enumerate(DataLoader)")
"""Traces of 2021 count the profiler's own annotations among the ops."""


class Frame(IntEnum):
    """What one level of a stack is. A node is an op of the backward pass that autograd's engine runs."""

    OP = 0
    ANNOTATION = 1
    NODE = 2


class Chain(NamedTuple):
    """The innermost frame of a stack and the chain outside it (NONE: none); equal stacks are one chain."""

    outer: int
    name: int
    frame: Frame


@dataclass(frozen=True, eq=False, slots=True)
class Stacks:
    """Host events by thread and start, arrays of one length; indices of events everywhere, NONE for none.

    `forward` is the forward op that the innermost numbered node around an event differentiates; `backward` whether
    any node is around it. AccumulateGrad has no number and the forward op of the numbered node before it.
    """

    trace: Trace
    rows: Int64
    nesting: Nesting
    shifts: Int64
    frame: NDArray[np.uint8]
    chain: Int64
    chains: tuple[Chain, ...]
    forward: Int64
    backward: NDArray[np.bool_]

    def around(self, rows: Int64) -> Int64:
        """The innermost event around the start of each of these rows of the trace, on their own threads."""
        at = self.trace.ts_ns[rows] + self.shifts[self.trace.lane[rows]]
        found: Int64 = self.nesting.innermost(at)
        return found

    def own_op_ns(self) -> Int64:
        """Per op and node, its time without the ops inside it; 0 for annotations, which are names for time."""
        own = self.nesting.own_ns()
        marks = np.flatnonzero(self.frame == Frame.ANNOTATION)
        holder = nearest(self.nesting.parents, self.frame != Frame.ANNOTATION)[marks]
        np.add.at(own, holder[holder != NONE], own[marks[holder != NONE]])
        own[marks] = 0
        return own


def nearest(parents: Int64, wanted: NDArray[np.bool_]) -> Int64:
    """For each event itself or the innermost one around it that is wanted, NONE where there is none."""
    found = np.where(wanted, np.arange(len(parents)), parents)
    while True:
        still = np.flatnonzero((found != NONE) & ~wanted[found])
        if not len(still):
            return found
        found[still] = found[found[still]]


def stacks(trace: Trace) -> Stacks:
    """The stacks of all host threads."""
    rows = trace.rows(Category.CPU_OP, Category.ANNOTATION)
    frame = _frames(trace, rows)
    # An annotation and an op of one start and end: the annotation is around the op.
    order = np.lexsort([frame != Frame.ANNOTATION, -trace.dur_ns[rows], trace.ts_ns[rows], trace.lane[rows]])
    rows, frame = rows[order], frame[order]
    # Threads one after the other on one time axis, so that they nest in one pass.
    reach = int(trace.end_ns.max()) + 1 if len(trace) else 1
    shifts = np.arange(len(trace.lanes) + 1, dtype=np.int64) * reach
    starts = trace.ts_ns[rows] + shifts[trace.lane[rows]]
    nesting = Nesting(starts, starts + trace.dur_ns[rows])
    chain, chains = _chains(nesting.parents, trace.name[rows], frame)
    forward, backward = _forward(trace, rows, nesting.parents, frame)
    return Stacks(trace, rows, nesting, shifts, frame, chain, chains, forward, backward)


def _frames(trace: Trace, rows: Int64) -> NDArray[np.uint8]:
    old = np.array([name.startswith(_OLD_MARKS) for name in trace.names], bool)
    marks = (trace.category[rows] == Category.ANNOTATION) | (old[trace.name[rows]] if len(rows) else False)
    frame = np.where(marks, Frame.ANNOTATION, Frame.OP).astype(np.uint8)
    is_node = np.array([name.startswith(NODE) for name in trace.names], bool)
    named = is_node[trace.name[rows]] if len(rows) else np.zeros(0, bool)
    frame[(frame == Frame.OP) & (named | (trace.forward_thread[rows] > 0))] = Frame.NODE
    return frame


def _chains(
    parents: Int64, names: NDArray[np.signedinteger], frame: NDArray[np.uint8]
) -> tuple[Int64, tuple[Chain, ...]]:
    known: Interned[tuple[int, int, int]] = Interned()
    codes: list[int] = []
    for parent, name, kind in zip(parents.tolist(), names.tolist(), frame.tolist(), strict=True):
        codes.append(known[codes[parent] if parent != NONE else NONE, name, kind])
    return np.array(codes, np.int64), tuple(Chain(o, n, Frame(k)) for o, n, k in known)


def _forward(trace: Trace, rows: Int64, parents: Int64, frame: NDArray[np.uint8]) -> tuple[Int64, NDArray[np.bool_]]:
    """(forward op of each event, whether it is in the backward pass)."""
    index = np.full(len(trace), NONE, np.int64)
    index[rows] = np.arange(len(rows))
    nodes = np.flatnonzero(frame == Frame.NODE)
    found = forward_rows(trace, rows[nodes])
    of_node = np.full(len(rows), NONE, np.int64)
    of_node[nodes] = np.where(found == NONE, NONE, index[found])
    leading = leading_nodes(trace, rows[nodes])
    of_node[nodes] = np.where(leading == NONE, NONE, of_node[nodes[leading]])
    holder = nearest(parents, of_node != NONE)
    forward = np.where(holder == NONE, NONE, of_node[holder])
    return forward, nearest(parents, frame == Frame.NODE) != NONE
