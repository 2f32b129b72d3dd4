"""The events of traces as the lanes of a page: gaps and streams of each device, threads of the host. Pure.

Of several ranks the first has its threads; of the others the devices are shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from bench.inspection.lanes import MOST_EVENTS, NO_DELAY, Ints, Lane, Mark, Part, Timeline, make_lane, thin
from profiles.trace.breakdown import closing_launch_ns, idle_spans
from profiles.trace.columns import LAUNCH_CATEGORIES, NONE, Category, Process, Trace
from profiles.trace.components import Components, phase_of
from profiles.trace.fields import Interned
from profiles.trace.gpu import GpuWork
from profiles.trace.rules import OTHER
from profiles.trace.windows import find_steps

CAUSES = ("host_late", "queued", "unknown")
"""Of idleness: docs/method/traces.md."""
OWN_CLOCKS = "ranks share no moment by their clocks: each begins at its own first event"


class _Tables:
    """The names and parts of a page, and the codes of traces in them."""

    def __init__(self) -> None:
        self.names: Interned[str] = Interned()
        self.parts: Interned[Part] = Interned()

    def name(self, found: Components, rows: Ints) -> Ints:
        """Codes of the names of some rows of a trace."""
        trace = found.stacks.trace
        codes, at = np.unique(trace.name[rows], return_inverse=True)
        known = np.array([self.names[trace.names[code]] for code in codes.tolist()], np.int64)
        return known[at] if len(codes) else at.astype(np.int64)

    def part(self, found: Components, component: Ints, backward: np.ndarray) -> Ints:
        """Codes of components and passes; component NONE belongs nowhere."""
        keys, at = np.unique(2 * component + backward, return_inverse=True)
        known = np.array([self.parts[_part(found, key)] for key in keys.tolist()], np.int64)
        return known[at] if len(keys) else at.astype(np.int64)


def _part(found: Components, key: int) -> Part:
    if key < 0:
        return Part(OTHER)
    name = found.names[key // 2]
    return Part(name, phase_of(name, bool(key % 2)))


class _Rank:
    """One trace: its lanes, `shift_ns` later than in the file."""

    def __init__(self, found: Components, tables: _Tables, prefix: str, shift_ns: int) -> None:
        self._found, self._tables, self._prefix, self._shift_ns = found, tables, prefix, shift_ns
        self.threads = _threads(found)
        self._devices = list(_devices(found.work))
        self.num_streams = sum(1 + len(streams) for _, _, streams in self._devices)
        """Lanes of devices: the gaps of each, and its streams."""

    def streams(self, first_thread: int | None) -> Iterator[Lane]:
        """Gaps and streams, device by device; `first_thread` is the position of the first thread's lane, if shown."""
        work = self._found.work
        for pid, device, streams in self._devices:
            group = f"{self._prefix}GPU {pid}"
            yield self._idle(group, work.only(device))
            for stream in streams:
                at = device[work.stream[device] == stream]
                yield self._stream(group, f"stream {stream}", at, first_thread)

    def _idle(self, group: str, work: GpuWork) -> Lane:
        holes = idle_spans(work)
        launched = closing_launch_ns(work, holes)
        cause = np.where(launched == NONE, 2, np.where(launched > holes.starts, 0, 1))
        names = np.array([self._tables.names[f"idle, {c.replace('_', ' ')}"] for c in CAUSES], np.int64)
        parts = np.array([self._tables.parts[Part(f"idle_{c}")] for c in CAUSES], np.int64)
        return make_lane(
            group,
            "idle",
            "idle",
            start_ns=holes.starts + self._shift_ns,
            dur_ns=holes.ends - holes.starts,
            name=names[cause],
            part=parts[cause],
        )

    def _stream(self, group: str, title: str, at: Ints, first_thread: int | None) -> Lane:
        found, work = self._found, self._found.work.only(at)
        delay, launcher = np.full(len(at), NO_DELAY), np.full(len(at), NONE, np.int64)
        known = np.flatnonzero(work.launch != NONE)
        calls = work.launch[known]
        delay[known] = work.starts_ns[known] - work.trace.end_ns[calls]
        if first_thread is not None:
            position = np.full(len(work.trace.lanes) + 1, NONE, np.int64)
            position[self.threads] = first_thread + np.arange(len(self.threads))
            launcher[known] = position[work.trace.lane[calls]]
        return make_lane(
            group,
            title,
            "gpu",
            start_ns=work.starts_ns + self._shift_ns,
            dur_ns=work.durs_ns,
            name=self._tables.name(found, work.rows),
            part=self._tables.part(found, found.gpu[at], found.gpu_backward[at]),
            delay_ns=delay,
            launcher=launcher,
        )

    def host(self) -> Iterator[Lane]:
        """The threads: ops and annotations, and calls into the device's driver."""
        found, trace = self._found, self._found.stacks.trace
        rows, component, backward = _host_events(found)
        for lane in self.threads:
            at = np.flatnonzero(trace.lane[rows] == lane)
            pid, tid = trace.lanes[lane]
            yield make_lane(
                f"{self._prefix}process {pid}",
                trace.metadata.thread_names.get((pid, tid)) or f"thread {tid}",
                "cpu",
                start_ns=trace.ts_ns[rows[at]] + self._shift_ns,
                dur_ns=trace.dur_ns[rows[at]],
                name=self._tables.name(found, rows[at]),
                part=self._tables.part(found, component[at], backward[at]),
            )


def _devices(work: GpuWork) -> Iterator[tuple[Process, Ints, list[int]]]:
    """(pid, positions of its events, its streams) of each device that has some."""
    for number, pid in enumerate(work.devices):
        at = np.flatnonzero(work.device == number)
        if len(at):
            yield pid, at, np.unique(work.stream[at]).tolist()


def _host_events(found: Components) -> tuple[Ints, Ints, np.ndarray]:
    """(rows, component or NONE, whether backward) of what a thread shows."""
    held, trace = found.stacks, found.stacks.trace
    calls = trace.rows(*LAUNCH_CATEGORIES)
    around = held.around(calls) if len(held.rows) else np.full(len(calls), NONE, np.int64)
    component, backward = np.full(len(calls), NONE, np.int64), np.zeros(len(calls), bool)
    known = np.flatnonzero(around != NONE)
    component[known], backward[known] = found.host[around[known]], held.backward[around[known]]
    rows = np.concatenate([held.rows, calls])
    return rows, np.concatenate([found.host, component]), np.concatenate([held.backward, backward])


def _threads(found: Components) -> list[int]:
    """The lanes of the host's threads: those with the most events first."""
    trace = found.stacks.trace
    lanes, counts = np.unique(
        trace.lane[trace.rows(Category.CPU_OP, Category.ANNOTATION, *LAUNCH_CATEGORIES)], return_counts=True
    )
    order: list[int] = lanes[np.argsort(-counts, kind="stable")].tolist()
    return order


def make_timeline(shown: Sequence[tuple[str, Components]], most: int = MOST_EVENTS) -> Timeline | None:
    """Lanes of traces in order of rank, each with what its lanes are called; None where there is nothing to show."""
    if not shown:
        return None
    tables, shifts = _Tables(), _shifts([found for _, found in shown])
    notes = [] if shifts is not None else [OWN_CLOCKS]
    ranks = [
        _Rank(found, tables, f"{name} · " if name else "", shift)
        for (name, found), shift in zip(shown, shifts or [0] * len(shown), strict=True)
    ]
    lanes = [*ranks[0].streams(ranks[0].num_streams), *ranks[0].host()]
    for rank in ranks[1:]:
        lanes += rank.streams(None)
    if len(ranks) > 1 and any(rank.threads for rank in ranks[1:]):
        notes.append(f"threads are shown of {shown[0][0]} only")
    return _made(tables, lanes, _marks(shown[0][1], (shifts or [0])[0]), notes, most) if lanes else None


def _made(tables: _Tables, lanes: Sequence[Lane], steps: tuple[Mark, ...], notes: list[str], most: int) -> Timeline:
    ends = [int((lane.start_ns + lane.dur_ns).max()) for lane in lanes if len(lane)]
    ends += [step.start_ns + step.dur_ns for step in steps]
    whole = Timeline(
        span_ns=max(ends, default=1), names=tuple(tables.names), parts=tuple(tables.parts), lanes=tuple(lanes),
        steps=steps,
    )  # fmt: skip
    kept = thin(whole, most)
    told = "; ".join([*notes, *([kept.left_out] if kept.left_out else [])])
    return msgspec.structs.replace(kept, left_out=told[:1].upper() + told[1:])


def _marks(found: Components, shift_ns: int) -> tuple[Mark, ...]:
    steps = find_steps(found.stacks.trace)
    return tuple(Mark(f"step {s.number}", s.start_ns + shift_ns, s.end_ns - s.start_ns) for s in steps)


def _shifts(found: Sequence[Components]) -> list[int] | None:
    """What to add to the times of each trace so that they share an axis; None where their clocks do not meet."""
    traces = [one.stacks.trace for one in found]
    if len(traces) == 1:
        return [0]
    begins = [_began_ns(trace) for trace in traces]
    ends = [began + int(trace.end_ns.max(initial=0)) for began, trace in zip(begins, traces, strict=True)]
    first = min(begins)
    return [began - first for began in begins] if max(begins) <= min(ends) else None


def _began_ns(trace: Trace) -> int:
    """The first event by the file's clock, which newer profilers count from a base that they write beside it."""
    base = trace.metadata.other.get("baseTimeNanoseconds")
    return trace.base_ns + (base if isinstance(base, int) else 0)
