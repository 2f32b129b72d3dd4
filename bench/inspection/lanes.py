"""The timeline of a page: lanes of events as columns, packed into one short text that the page unpacks.

Packed: base64 of gzip of: 4 bytes little-endian length of the head, the head (JSON), then for each lane its columns in
the order of COLUMNS. A column of `width` w and n values is w planes of n bytes: all lowest bytes first. Starts hold the
difference to the start before. Delays are zigzag (0, -1, 1, -2, ... as 0, 1, 2, 3, ...) plus 1, launchers plus 1; there
0 is "not known".
"""

from __future__ import annotations

import base64
import gzip
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

Kind = Literal["gpu", "cpu", "idle"]
Ints = NDArray[np.int64]

NO_DELAY = int(np.iinfo(np.int64).min)
"""In a column of delays: not known."""
LONGEST_NS = 2**53 - 1
"""The page computes with doubles; 104 days."""
MOST_EVENTS = 2_000_000
"""What a page holds unless told otherwise: a browser keeps all of them in memory."""
COLUMNS = ("start_ns", "dur_ns", "name", "part", "row", "delay_ns", "launcher")


class Part(NamedTuple):
    """What an event is counted for: a component, and the phase ('forward', 'backward' or '')."""

    component: str
    phase: str = ""


class Mark(NamedTuple):
    """A named range of time, a training step."""

    name: str
    start_ns: int
    dur_ns: int


class Lane(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Events of one GPU stream or one thread, or the gaps of one device; build with make_lane().

    n values in each column, sorted by start.

    `group` is the device or process it belongs to. Times in ns from the start of the timeline. `name` and `part` are
    positions in the timeline's tables. `row` is the depth: 0 at the top. `delay_ns` is from the end of the launch call
    to the start (negative where the kernel started before the call returned), NO_DELAY where unknown. `launcher` is the
    position, among the timeline's lanes, of the thread that made the call, -1 where unknown: call and start are linked.
    """

    group: str
    title: str
    kind: Kind
    start_ns: Ints
    dur_ns: Ints
    name: Ints
    part: Ints
    row: Ints
    delay_ns: Ints | None = None
    launcher: Ints | None = None

    def __len__(self) -> int:
        return len(self.start_ns)


class Timeline(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Lanes from top to bottom with the tables that their columns point to; `span_ns` is the length of all of it.

    `left_out` says which events of the trace are not in it.
    """

    span_ns: int
    names: tuple[str, ...]
    parts: tuple[Part, ...]
    lanes: tuple[Lane, ...]
    steps: tuple[Mark, ...] = ()
    left_out: str = ""

    @property
    def num_events(self) -> int:
        """Events of all lanes."""
        return sum(len(lane) for lane in self.lanes)


def make_lane(
    group: str,
    title: str,
    kind: Kind,
    *,
    start_ns: ArrayLike,
    dur_ns: ArrayLike,
    name: ArrayLike,
    part: ArrayLike,
    delay_ns: ArrayLike | None = None,
    launcher: ArrayLike | None = None,
) -> Lane:
    """A lane from columns in any order: sorts them (the longer of two that start together first), finds the rows."""
    starts, durations = np.asarray(start_ns, np.int64), np.asarray(dur_ns, np.int64)
    order = np.lexsort((-durations, starts))
    return Lane(
        group=group,
        title=title,
        kind=kind,
        start_ns=starts[order],
        dur_ns=durations[order],
        name=np.asarray(name, np.int64)[order],
        part=np.asarray(part, np.int64)[order],
        row=rows(starts[order], durations[order]),
        delay_ns=None if delay_ns is None else np.asarray(delay_ns, np.int64)[order],
        launcher=None if launcher is None else np.asarray(launcher, np.int64)[order],
    )


def rows(start_ns: Ints, dur_ns: Ints) -> Ints:
    """For events sorted by start, the first row from the top that is free: the depth where events are nested."""
    # An event without a duration still needs a place of its own.
    end_ns = start_ns + np.maximum(dur_ns, 1)
    if np.all(start_ns[1:] >= end_ns[:-1]):
        return np.zeros(len(start_ns), np.int64)
    found, ends = [], [0]
    for start, end in zip(start_ns.tolist(), end_ns.tolist(), strict=True):
        row = 0
        while row < len(ends) and ends[row] > start:
            row += 1
        if row == len(ends):
            ends.append(0)
        ends[row] = end
        found.append(row)
    return np.array(found, np.int64)


def thin(timeline: Timeline, most: int = MOST_EVENTS) -> Timeline:
    """At most `most` events: the shortest of the threads go, and `left_out` says so; GPUs stay whole."""
    room = most - sum(len(lane) for lane in timeline.lanes if lane.kind != "cpu")
    lengths = np.concatenate([np.empty(0, np.int64), *(x.dur_ns for x in timeline.lanes if x.kind == "cpu")])
    if len(lengths) <= max(room, 0):
        return timeline
    shortest = int(np.partition(lengths, -room)[-room]) + 1 if room > 0 else int(lengths.max()) + 1
    lanes = tuple(_without(lane, shortest) if lane.kind == "cpu" else lane for lane in timeline.lanes)
    told = f"{int((lengths < shortest).sum())} calls on threads shorter than {shortest / 1e3:g} µs are left out"
    return msgspec.structs.replace(timeline, lanes=lanes, left_out=told)


def _without(lane: Lane, shortest_ns: int) -> Lane:
    kept = lane.dur_ns >= shortest_ns
    columns = zip(COLUMNS, _values(lane), strict=True)
    return msgspec.structs.replace(lane, **{name: column[kept] for name, column in columns if column is not None})


def pack(timeline: Timeline) -> str:
    """The timeline as text of letters, digits, + / and =. ValueError where a column does not fit the tables."""
    bodies, heads = [], []
    for lane in timeline.lanes:
        _check(lane, timeline)
        widths, body = _columns(lane)
        heads.append({"group": lane.group, "title": lane.title, "kind": lane.kind, "n": len(lane), "widths": widths})
        bodies.append(body)
    head = msgspec.json.encode(
        {
            "span": timeline.span_ns,
            "names": timeline.names,
            "parts": timeline.parts,
            "steps": timeline.steps,
            "lanes": heads,
        }
    )
    content = b"".join((len(head).to_bytes(4, "little"), head, *bodies))
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()


def _check(lane: Lane, timeline: Timeline) -> None:
    columns = _values(lane)
    if any(len(column) != len(lane) for column in columns if column is not None):
        raise ValueError(f"lane {lane.title!r}: columns differ in length")
    if not len(lane):
        return
    if min(int(c.min()) for c in (lane.start_ns, lane.dur_ns, lane.name, lane.part, lane.row)) < 0:
        raise ValueError(f"lane {lane.title!r}: a negative time, name, part or row")
    if int(lane.name.max()) >= len(timeline.names) or int(lane.part.max()) >= len(timeline.parts):
        raise ValueError(f"lane {lane.title!r}: a name or part that is not in the table")
    if int((lane.start_ns + lane.dur_ns).max()) > LONGEST_NS:
        raise ValueError(f"lane {lane.title!r}: ends after 2^53 ns")
    if lane.launcher is not None and not -1 <= lane.launcher.min() <= lane.launcher.max() < len(timeline.lanes):
        raise ValueError(f"lane {lane.title!r}: a launcher that is no lane")
    if np.any(np.diff(lane.start_ns) < 0):
        raise ValueError(f"lane {lane.title!r}: not sorted by start")


def _values(lane: Lane) -> tuple[Ints | None, ...]:
    return lane.start_ns, lane.dur_ns, lane.name, lane.part, lane.row, lane.delay_ns, lane.launcher


def _columns(lane: Lane) -> tuple[list[int], bytes]:
    gaps = np.diff(lane.start_ns, prepend=0)
    delays = None if lane.delay_ns is None else _zigzag(lane.delay_ns)
    launchers = None if lane.launcher is None else lane.launcher + 1
    packed = [_planes(c) for c in (gaps, lane.dur_ns, lane.name, lane.part, lane.row, delays, launchers)]
    return [width for width, _ in packed], b"".join(body for _, body in packed)


def _zigzag(delays: Ints) -> Ints:
    known = delays != NO_DELAY
    clipped = np.clip(np.where(known, delays, 0), -(LONGEST_NS // 4), LONGEST_NS // 4)
    return np.where(known, np.where(clipped < 0, -2 * clipped - 1, 2 * clipped) + 1, 0)


def _planes(values: Ints | None) -> tuple[int, bytes]:
    if values is None or not len(values):
        return 0, b""
    width = max(1, (int(values.max()).bit_length() + 7) // 8)
    return width, values.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width].T.tobytes()
