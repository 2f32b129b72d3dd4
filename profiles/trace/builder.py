"""Decoded events to columns: block by block into small arrays, joined and ordered once at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from profiles.trace import fields, times
from profiles.trace.columns import (
    CATEGORIES,
    GPU_CATEGORIES,
    NONE,
    Category,
    Collective,
    Inputs,
    Int64,
    MemoryEvents,
    Quality,
    Trace,
)
from profiles.trace.decode import NULL, RawArgs, RawEvent, Word
from profiles.trace.fields import Interned, arguments, external, narrow, whole, whole_column
from profiles.trace.labels import Labels
from profiles.trace.ordering import joined, merged_lanes, order_of, sorted_names

LONGEST_NS = 30 * 24 * 3600 * 10**9
"""No profiler runs for a month: a longer duration, or a start further from the rest, is a fault of the writer."""
SKIPPED = frozenset({Category.PYTHON, Category.FLOW})
_FLOW_PHASES = frozenset("stf")
_SIDES = ("correlation", "stream", "bytes", "external_id", "sequence", "forward_thread", "inputs")
_MEMORY = ("memory_bytes", "total_allocated", "total_reserved", "device_type", "device_id")


class Builder:
    """Takes events block by block; `finish` makes the Trace. `skip` are categories that are counted, not kept."""

    def __init__(self, skip: frozenset[Category] = SKIPPED) -> None:
        self._skip = skip
        self._kinds: Interned[tuple[str | None, str | None]] = Interned()
        self._kind_category: list[int] = []
        self._counts: defaultdict[int, int] = defaultdict(int)
        self._names: Interned[str | None] = Interned()
        self._lanes: Interned[tuple[Word, Word]] = Interned()
        self._inputs: Interned[tuple[bytes, bytes, bytes]] = Interned()
        self._chunks: defaultdict[str, list[NDArray[Any]]] = defaultdict(list)
        self._memory: defaultdict[str, list[Int64]] = defaultdict(list)
        self._collectives: dict[int, Collective] = {}
        self._labels = Labels()
        self._rows = self._missing = self._negative = self._absurd = 0
        self.events = 0

    def add(self, events: Sequence[RawEvent]) -> None:
        """One block of events."""
        if not events:
            return
        self.events += len(events)
        codes = np.array([self._kinds[e.ph, e.cat] for e in events], np.int64)
        for kind in list(self._kinds)[len(self._kind_category) :]:
            self._kind_category.append(self._category(*kind))
        for code, count in enumerate(np.bincount(codes).tolist()):
            self._counts[code] += count
        category = np.array(self._kind_category)[codes]
        self._add_beside(events, category)
        keep = category >= 0
        rows = list(compress(events, keep.tolist()))
        if rows:
            self._add_rows(rows, category[keep])

    def _category(self, phase: str | None, word: str | None) -> int:
        """The category of a phase and word; -1 if such events have no row, -2 instants, -3 metadata."""
        if phase == "M":
            return -3
        if phase == "X":
            found = CATEGORIES.get(word or "", Category.OTHER)
        elif phase in _FLOW_PHASES:
            found = Category.FLOW
        else:
            return -2 if phase in ("i", "I") else -1
        return -1 if found in self._skip else found

    def _add_beside(self, events: Sequence[RawEvent], category: Int64) -> None:
        instants = [events[at] for at in np.flatnonzero(category == -2).tolist()]
        memory = [e for e in instants if e.args is not None and e.args.memory_bytes is not None]
        if memory:
            self._memory["ts"].append(times.parse([e.ts for e in memory]))
            for field in _MEMORY:
                self._memory[field].append(whole_column([getattr(e.args, field) for e in memory]))
        for at in np.flatnonzero(category == -3).tolist():
            self._labels.add(events[at])

    def _add_rows(self, rows: list[RawEvent], category: Int64) -> None:
        start, dur, usable = self._times(rows, category)
        if not usable.all():
            rows = list(compress(rows, usable.tolist()))
            start, dur, category = start[usable], dur[usable], category[usable]
        chunks = self._chunks
        chunks["ts_ns"].append(start)
        chunks["dur_ns"].append(dur)
        chunks["category"].append(category.astype(np.uint8))
        chunks["phase"].append(np.array([ord(e.ph or "X") for e in rows], np.uint8))
        chunks["name"].append(narrow(np.array([self._names[e.name] for e in rows], np.int64)))
        chunks["lane"].append(narrow(np.array([self._lanes[e.pid, e.tid] for e in rows], np.int64)))
        sides = {field: np.full(len(rows), NONE, np.int64) for field in _SIDES}
        self._add_sides(rows, category, sides)
        for field, column in sides.items():
            chunks[field].append(narrow(column))
        self._rows += len(rows)

    def _times(self, rows: list[RawEvent], category: Int64) -> tuple[Int64, Int64, NDArray[np.bool_]]:
        """(start, duration, whether both are usable), in ns; counts what is not."""
        start = times.parse([e.ts for e in rows])
        try:
            dur_us = np.array([e.dur for e in rows], np.float64)
        except ValueError:
            dur_us = np.array([fields.number(e.dur) for e in rows], np.float64)
        dur_us[category == Category.FLOW] = 0.0
        missing = (start == times.UNKNOWN) | ~np.isfinite(dur_us)
        negative = ~missing & (dur_us < 0)
        absurd = ~missing & (dur_us > LONGEST_NS / 1000)
        self._missing += int(missing.sum())
        self._negative += int(negative.sum())
        self._absurd += int(absurd.sum())
        usable = ~(missing | negative | absurd)
        # A double holds microseconds with three decimals exactly enough up to 50 days.
        return start, np.rint(np.where(usable, dur_us, 0.0) * 1000).astype(np.int64), usable

    def _add_sides(self, rows: list[RawEvent], category: Int64, sides: Mapping[str, Int64]) -> None:
        """The columns that only some events fill."""
        gpu = np.isin(category, GPU_CATEGORIES)
        host = np.isin(category, (Category.CPU_OP, Category.ANNOTATION))
        where, args = arguments(rows, host)
        sides["external_id"][where] = whole_column([external(a) for a in args])
        sides["sequence"][where] = whole_column([a.sequence for a in args])
        sides["forward_thread"][where] = whole_column([a.forward_thread for a in args])
        sides["inputs"][where] = [self._inputs_code(a) for a in args]
        self._note_collectives(where, args)
        where, args = arguments(rows, ~host)
        sides["external_id"][where] = whole_column([external(a) for a in args])
        sides["correlation"][where] = whole_column([a.correlation for a in args])
        where, args = arguments(rows, gpu)
        # A negative size is as good as none.
        sides["bytes"][where] = np.maximum(whole_column([a.bytes for a in args]), NONE)
        sides["stream"][where] = [
            fields.stream(a.stream, rows[at].tid) for a, at in zip(args, where.tolist(), strict=True)
        ]
        self._note_collectives(where, args)
        for at in np.flatnonzero(category == Category.FLOW).tolist():
            sides["correlation"][at] = whole(rows[at].id)

    def _inputs_code(self, args: RawArgs) -> int:
        dims = args.dims if args.dims is not NULL else args.dims_lower
        if dims is NULL and args.types is NULL and args.concrete is NULL:
            return NONE
        return self._inputs[bytes(dims), bytes(args.types), bytes(args.concrete)]

    def _note_collectives(self, where: Int64, args: Iterable[RawArgs]) -> None:
        for at, said in zip(where.tolist(), args, strict=True):
            if said.collective is not None:
                self._collectives[self._rows + at] = fields.collective(said)

    def finish(self, path: Path, head: Mapping[str, Any], quality: Quality) -> Trace:
        """The Trace. `head` holds the top-level keys; `quality` what was lost so far, counts are filled in here."""
        columns = {field: joined(self._chunks.pop(field, [])) for field in ("ts_ns", "dur_ns", "category", "phase")}
        columns |= {field: joined(self._chunks.pop(field, [])) for field in ("name", "lane", *_SIDES)}
        columns = self._within_reach(columns)
        names, columns["name"] = sorted_names(list(self._names), columns["name"])
        lanes, columns["lane"] = merged_lanes(list(self._lanes), columns["lane"])
        base_ns = int(columns["ts_ns"].min()) if len(columns["ts_ns"]) else 0
        columns["ts_ns"] -= base_ns
        columns = self._ordered(columns)
        return Trace(
            path=path,
            base_ns=base_ns,
            **columns,
            names=names,
            lanes=lanes,
            input_table=tuple(Inputs(*map(fields.value, key)) for key in self._inputs),
            collectives=dict(sorted(self._collectives.items())),
            memory=self._memory_events(base_ns),
            metadata=self._labels.metadata(head),
            quality=msgspec.structs.replace(
                quality,
                events=self.events,
                kinds=self._kind_counts(),
                times_missing=self._missing,
                times_negative=self._negative,
                times_absurd=self._absurd,
            ),
        )

    def _within_reach(self, columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Without events that start more than LONGEST_NS away from the middle one."""
        ts_ns = columns["ts_ns"]
        if not len(ts_ns):
            return columns
        middle = int(np.partition(ts_ns, len(ts_ns) // 2)[len(ts_ns) // 2])
        near = np.abs(ts_ns // 2 - middle // 2) <= LONGEST_NS // 2
        if near.all():
            return columns
        self._absurd += int(np.count_nonzero(~near))
        self._renumber(np.flatnonzero(near))
        return {field: column[near] for field, column in columns.items()}

    def _ordered(self, columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        order = order_of(columns)
        if order is None:
            return columns
        self._renumber(order)
        for field in columns:
            columns[field] = columns[field][order]
        return columns

    def _renumber(self, taken: Int64) -> None:
        """Collectives follow their rows; `taken` are the old rows in their new order."""
        if self._collectives:
            new = {old: at for at, old in enumerate(taken.tolist()) if old in self._collectives}
            self._collectives = {new[old]: said for old, said in self._collectives.items() if old in new}

    def _kind_counts(self) -> dict[str, int]:
        found: defaultdict[str, int] = defaultdict(int)
        for (phase, word), code in self._kinds.items():
            found[f"{phase}/{word}"] += self._counts[code]
        return dict(sorted(found.items()))

    def _memory_events(self, base_ns: int) -> MemoryEvents:
        columns = {field: joined(self._memory.get(field, [])).astype(np.int64) for field in ("ts", *_MEMORY)}
        usable = np.flatnonzero(columns["ts"] != times.UNKNOWN)
        order = usable[np.lexsort([columns[f][usable] for f in (*reversed(_MEMORY), "ts")])]
        columns["ts"][usable] -= base_ns
        return MemoryEvents(*(columns[field][order] for field in ("ts", *_MEMORY)))
