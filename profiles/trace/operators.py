"""What operators reached: FLOPs and bytes of their recorded shapes over the time of their GPU work, or on the host.

Each moment of work counts once: where an operator with known work runs inside another, the outer one has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from profiles.trace.columns import NONE, Int64
from profiles.trace.components import Components, phase_of
from profiles.trace.fields import Interned
from profiles.trace.homes import Bools
from profiles.trace.opwork import message_work, op_work
from profiles.trace.shapes import OpWork
from profiles.trace.stacks import Frame, Stacks, nearest


class OperatorTimes(msgspec.Struct, frozen=True, kw_only=True):
    """All calls of one operator in one component and pass; a row per type and way to count bytes where these differ.

    `sum_ns` is the time of all `n` calls: GPU time of what they launched, or on a trace without a GPU their time on
    the host. FLOPs, bytes and `known_ns` are of the `n_known` calls whose work the shapes tell; `bytes_convention`
    says how bytes are counted. `row_bytes`, `table_bytes`: means over lookups.
    """

    name: str
    component: str
    phase: str
    n: int
    n_known: int
    sum_ns: int
    known_ns: int
    flops: float
    bytes: float
    bytes_convention: str
    dtype: str
    row_bytes: float | None = None
    table_bytes: float | None = None

    @property
    def flops_per_s(self) -> float | None:
        """Reached by the known calls."""
        return self.flops / self.known_ns * 1e9 if self.known_ns and self.flops else None

    @property
    def bytes_per_s(self) -> float | None:
        """Reached by the known calls."""
        return self.bytes / self.known_ns * 1e9 if self.known_ns and self.bytes else None


class _Works:
    """The work of every host op, looked up once per name and shapes."""

    def __init__(self, held: Stacks) -> None:
        trace, rows = held.trace, held.rows
        self.kinds: list[OpWork | None] = [None]
        seen: dict[tuple[int, int], int] = {}
        names, inputs = trace.name[rows].tolist(), trace.inputs[rows].tolist()
        codes = np.zeros(len(rows), np.int64)
        for at, key in enumerate(zip(names, inputs, strict=True)):
            if key not in seen:
                found = op_work(trace.names[key[0]], trace.input_table[key[1]]) if key[1] != NONE else None
                seen[key] = len(self.kinds) if found else 0
                if found:
                    self.kinds.append(found)
            codes[at] = seen[key]
        self.codes = np.where(_around_sparse(held), 0, codes)
        self._add_messages(held)
        manners: Interned[tuple[str, str]] = Interned()
        told = [manners[kind.convention, kind.dtype] if kind is not None else NONE for kind in self.kinds]
        self._manner = np.array(told, np.int64)

    def _add_messages(self, held: Stacks) -> None:
        """Collectives whose own arguments say what they sent."""
        rows = np.array(list(held.trace.collectives), np.int64)
        at = np.flatnonzero(np.isin(held.rows, rows)) if len(rows) else rows
        for index in at[self.codes[at] == 0].tolist():
            found = message_work(held.trace.collectives[int(held.rows[index])])
            if found is not None:
                self.codes[index] = len(self.kinds)
                self.kinds.append(found)

    def column(self, field: str) -> NDArray[np.float64]:
        """A number of every op's work, NaN where it is not known."""
        values = [getattr(kind, field) if kind is not None else None for kind in self.kinds]
        return np.array([np.nan if v is None else float(v) for v in values])[self.codes]

    def alike(self, ops: Int64) -> list[Int64]:
        """Ops divided by type and convention where their known work has several; else all of them together."""
        of_op = self._manner[self.codes[ops]]
        found = np.unique(of_op)
        return [ops[of_op == one] for one in found.tolist()] if np.count_nonzero(found != NONE) > 1 else [ops]


_SPARSE = re.compile(r"^aten::(_?indices|_?values|_nnz|_?coalesced?_?|is_coalesced|_?sparse_\w+)$")


def _around_sparse(held: Stacks) -> Bools:
    """Ops that work on sparse tensors inside: their recorded shapes are those of dense ones."""
    is_sparse = np.array([_SPARSE.search(name) is not None for name in held.trace.names], bool)
    found = np.zeros(len(held.rows), bool)
    if not is_sparse.any() or not len(found):
        return found
    at = held.nesting.parents[is_sparse[held.trace.name[held.rows]]]
    while len(at := np.unique(at[at != NONE])):
        found[at] = True
        at = held.nesting.parents[at]
    return found


def operators(found: Components, host: Bools | None = None) -> tuple[OperatorTimes, ...]:
    """Operators by time, the longest first. `host`: which host events count, for traces without a GPU."""
    held = found.stacks
    works = _Works(held)
    is_op = held.frame == Frame.OP
    known = is_op & (works.codes > 0)
    outer = _outermost(held.nesting.parents, known)
    direct = nearest(held.nesting.parents, is_op)
    if len(found.work):
        spent = _gpu_spent(found, outer, direct)
        counted = np.flatnonzero((spent > 0) & is_op)
    else:
        # Without GPU time every op has its own; an op with known work has that of the ops inside it too.
        spent = np.where(outer == np.arange(len(outer)), held.trace.dur_ns[held.rows], found.own_ns)
        inside = (outer != NONE) & (outer != np.arange(len(outer)))
        counted = np.flatnonzero(is_op & ~inside & (spent > 0) & (True if host is None else host))
    return _grouped(found, works, counted, spent)


def _outermost(parents: Int64, known: Bools) -> Int64:
    """For each event the outermost known one around it or itself, NONE where there is none."""
    innermost = nearest(parents, known)
    # The known one around a known one, until none is.
    found, above = innermost, np.where(parents == NONE, NONE, innermost[parents]) if len(parents) else innermost
    while True:
        at = np.flatnonzero(found != NONE)
        at = at[above[found[at]] != NONE]
        if not len(at):
            return found
        found = np.array(found)
        found[at] = above[found[at]]


def _gpu_spent(found: Components, outer: Int64, direct: Int64) -> Int64:
    """GPU time by the op that has it: the outermost known one around the launch, else the innermost op."""
    spent = np.zeros(len(outer), np.int64)
    inside = np.flatnonzero(found.around != NONE)
    at = found.around[inside]
    holder = np.where(outer[at] != NONE, outer[at], direct[at])
    has = holder != NONE
    np.add.at(spent, holder[has], found.work.durs_ns[inside[has]])
    return spent


def _grouped(found: Components, works: _Works, counted: Int64, spent: Int64) -> tuple[OperatorTimes, ...]:
    """Sums by name, component, pass, and how the known work is counted and in what type: these decide its roof."""
    held = found.stacks
    flops, moved = works.column("flops"), works.column("bytes")
    row, table = works.column("row_bytes"), works.column("table_bytes")
    keys = np.stack([held.trace.name[held.rows[counted]].astype(np.int64), found.host[counted], held.backward[counted]])
    order = np.lexsort(keys)
    keys, counted = keys[:, order], counted[order]
    first = np.flatnonzero(np.append(True, np.any(np.diff(keys, axis=1) != 0, axis=0))) if len(counted) else counted
    rows = []
    same_name = np.split(counted, first[1:]) if len(counted) else []
    for part in (alike for together in same_name for alike in works.alike(together)):
        known = part[works.codes[part] > 0]
        kind = works.kinds[works.codes[known[0]]] if len(known) else None
        component = found.names[int(found.host[part[0]])]
        rows.append(
            OperatorTimes(
                name=held.trace.text(int(held.rows[part[0]])),
                component=component,
                phase=phase_of(component, bool(held.backward[part[0]])),
                n=len(part),
                n_known=len(known),
                sum_ns=int(spent[part].sum()),
                known_ns=int(spent[known].sum()),
                flops=float(flops[known].sum()),
                bytes=float(moved[known].sum()),
                bytes_convention=kind.convention if kind else "unknown",
                dtype=kind.dtype if kind else "unknown",
                row_bytes=_mean(row[known]),
                table_bytes=_mean(table[known]),
            )
        )
    return tuple(sorted(rows, key=lambda o: (-o.sum_ns, o.name, o.component, o.phase, o.dtype)))


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) and not np.isnan(values).any() else None


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """What a component reached in the part of its operators' time whose work is known."""

    component: str
    phase: str
    known_frac: float
    flops_per_s: float | None
    bytes_per_s: float | None


def reached(found: Iterable[OperatorTimes]) -> tuple[Reached, ...]:
    """By component and pass, in order of first appearance. Messages of collectives are no memory traffic."""
    parts: dict[tuple[str, str], list[OperatorTimes]] = {}
    for one in found:
        parts.setdefault((one.component, one.phase), []).append(one)
    return tuple(_reached(key, listed) for key, listed in parts.items())


def _reached(key: tuple[str, str], listed: Sequence[OperatorTimes]) -> Reached:
    known = [o for o in listed if o.n_known and o.bytes_convention != "message"]
    known_s, whole_ns = sum(o.known_ns for o in known) * 1e-9, sum(o.sum_ns for o in listed)
    flops, moved = sum(o.flops for o in known), sum(o.bytes for o in known)
    return Reached(
        component=key[0],
        phase=key[1],
        known_frac=known_s * 1e9 / whole_ns if whole_ns else 0.0,
        flops_per_s=flops / known_s if known_s and flops else None,
        bytes_per_s=moved / known_s if known_s and moved else None,
    )
