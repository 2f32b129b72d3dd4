"""A Chrome trace of torch.profiler, streamed into columns: .json or .json.gz, any size, damaged or not.

Text is taken in blocks, cut at the last boundary between two events, and decoded with types; a block that does not
decode is read event by event (profiles/trace/repair.py). A block is right if it decodes: what lies between two
boundaries is an array of events only if both are boundaries of events.
"""

from __future__ import annotations

import gc
import re
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Raw

from profiles.trace import stream
from profiles.trace.builder import SKIPPED, Builder
from profiles.trace.columns import Category, Quality, Trace
from profiles.trace.decode import ANY, DAMAGE, KEYS, events_of
from profiles.trace.errors import NoTraceError, TraceError
from profiles.trace.repair import lenient, mend
from profiles.trace.stream import Progress, Source

_EVENTS_KEY = re.compile(rb'"traceEvents"\s*:\s*\[')
_BOUNDARY = re.compile(rb"\}(\s*,\s*)(?=\{)")
_WINDOW_BYTES = 1 << 16
_MOST_HEAD_BYTES = 1 << 26
_MOST_TAIL_BYTES = 1 << 26
_LONGEST_EVENT_BYTES = 1 << 26
_EVENT_PHASE = re.compile(rb'"ph"\s*:')
_BOM = b"\xef\xbb\xbf"


def read_trace(path: Path, *, skip: frozenset[Category] = SKIPPED, progress: Progress | None = None) -> Trace:
    """The events of a trace as columns. `skip`: categories that are counted but not kept.

    Damage is read around and counted in `quality`. TraceError where the file is absent, is no trace, or holds no
    event that can be read.
    """
    source = Source(path, progress)
    with _no_collector():
        return _Reader(source, Builder(skip)).read()


@contextmanager
def _no_collector() -> Iterator[None]:
    """Millions of short-lived events hold no cycles: looking for some costs a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Reader:
    """One pass over one file."""

    def __init__(self, source: Source, builder: Builder) -> None:
        self._source, self._builder, self._pieces = source, builder, source.pieces()
        self._buffer, self._taken_bytes = b"", 0
        self._more = True
        self._repaired = self._lost = 0
        self._metadata_lost = self._closed = False
        self._second_at: int | None = None

    def read(self) -> Trace:
        head = self._head()
        self._require_objects()
        while self._more and not self._closed:
            self._fill()
            if self._more:
                self._block()
        if not self._closed:
            self._last(head)
        else:
            self._tail(head)
        return self._finish(head)

    def _fill(self) -> bool:
        """One more piece into the buffer; False at the end."""
        piece = next(self._pieces, None)
        if piece is None:
            self._more = False
            return False
        self._buffer += piece
        return True

    def _take(self, count: int) -> None:
        self._taken_bytes += count
        self._buffer = self._buffer[count:]

    def _head(self) -> dict[str, Any]:
        """The keys before the events; the buffer is left at the first event."""
        while self._fill():
            if self._buffer.startswith(_BOM):
                self._take(len(_BOM))
            text = self._buffer.lstrip()
            if text[:1] == b"[":
                self._take(len(self._buffer) - len(text) + 1)
                return {}
            if text and text[:1] != b"{":
                raise NoTraceError(
                    self._source.path, f"is no JSON: it begins with {bytes(text[:12])!r} at byte 0{HINT}"
                )
            for found in _EVENTS_KEY.finditer(self._buffer):
                head = _keys(self._buffer[: found.start()] + b'"traceEvents":[]}')
                if head is not None:
                    self._take(found.end())
                    return head
            if len(self._buffer) > _MOST_HEAD_BYTES:
                break
        return self._damaged_head()

    def _require_objects(self) -> None:
        """Events are objects: a list of numbers or texts is some other file, however large."""
        first = self._buffer.lstrip()[:1]
        if first and first in b'"0123456789-[tfn':
            at = self._taken_bytes + len(self._buffer) - len(self._buffer.lstrip())
            raise NoTraceError(self._source.path, f"holds a list whose first element, at byte {at}, is no event{HINT}")

    def _damaged_head(self) -> dict[str, Any]:
        found = _EVENTS_KEY.search(self._buffer)
        if found is not None:
            self._metadata_lost = True
            self._take(found.end())
            return {}
        path, size = self._source.path, len(self._buffer)
        if self._source.damage:
            raise TraceError(path, f"{self._source.damage}, before any event; the file cannot be used, capture again")
        if not self._buffer.strip():
            raise TraceError(path, f"is empty; was the profiler stopped before it had written?{HINT}")
        kind = NoTraceError if _whole(self._buffer) else TraceError
        raise kind(path, f'holds no list "traceEvents" in its first {size} bytes{HINT}')

    def _block(self) -> None:
        """Take the events of the buffer up to its last boundary."""
        cut = self._cut()
        if cut is None:
            if len(self._buffer) > _LONGEST_EVENT_BYTES:
                self._mend(last=False)
            return
        text = self._buffer[: cut[0]]
        events = events_of(b"[" + text + b"]")
        if events is not None:
            self._builder.add(events)
            self._take(cut[1])
            return
        self._mend(last=False)

    def _cut(self) -> tuple[int, int] | None:
        """(end of the last whole event, begin of the next one); None if the buffer holds no boundary."""
        size = len(self._buffer)
        # Of a buffer that holds no boundary yet, only what is new can hold one.
        for begin in (max(size - _WINDOW_BYTES, 0), max(size - stream.PIECE_BYTES - _WINDOW_BYTES, 0)):
            found = deque(_BOUNDARY.finditer(self._buffer, begin), maxlen=1)
            if found:
                return found[0].start(1), found[0].end()
        return None

    def _mend(self, *, last: bool) -> None:
        found = mend(self._buffer, last=last)
        self._builder.add(found.events)
        self._repaired += found.repaired
        self._lost += found.lost
        self._closed = found.ended
        self._take(found.consumed)

    def _last(self, head: dict[str, Any]) -> None:
        """The rest of the file, which is whole in the buffer: events, the closing bracket, and keys after it."""
        events = events_of(b"[" + self._buffer)
        if events is not None:
            self._builder.add(events)
            self._closed = True
            self._take(len(self._buffer))
            return
        try:
            keys = dict(KEYS.decode(b'{"traceEvents":[' + self._buffer))
        except DAMAGE:
            keys = {}
        events = events_of(keys.pop("traceEvents")) if keys else None
        if events is None:
            self._mend(last=True)
            self._tail(head)
            return
        self._builder.add(events)
        self._closed = True
        self._take(len(self._buffer))
        for key, value in keys.items():
            self._add_key(head, key, value)

    def _add_key(self, head: dict[str, Any], key: str, value: Raw) -> None:
        """One key after the events, unless it is damaged."""
        try:
            head[key] = ANY.decode(value)
        except DAMAGE:
            self._metadata_lost = True

    def _tail(self, head: dict[str, Any]) -> None:
        """Keys after the closing bracket, at which the buffer stands."""
        while self._fill() and len(self._buffer) <= _MOST_TAIL_BYTES:
            pass
        rest = self._buffer[1:].strip()
        if not self._closed or rest in (b"", b"}"):
            return
        found = _keys(b'{"_":0' + rest)
        if found is None and _EVENT_PHASE.search(rest):
            self._second_at = self._taken_bytes + 1
        else:
            self._metadata_lost |= found is None
        head |= {key: value for key, value in (found or {}).items() if key != "_"}

    def _finish(self, head: Mapping[str, Any]) -> Trace:
        position = self._taken_bytes + len(self._buffer)
        truncated = None
        if not self._closed:
            truncated = self._source.damage or f"the JSON text ends at byte {position} inside the list of events"
        if not self._builder.events and (truncated or self._lost):
            why = truncated or f"{self._lost} damaged events are all there is"
            raise TraceError(self._source.path, f"{why}; no event can be read from it, capture again")
        quality = Quality(
            events=0,
            kinds={},
            events_repaired=self._repaired,
            events_lost=self._lost,
            metadata_lost=self._metadata_lost,
            truncated=truncated,
            file_damage=self._after() if self._closed else None,
            bytes_read=position,
        )
        return self._builder.finish(self._source.path, head, quality)

    def _after(self) -> str | None:
        """What is wrong with the file behind its list of events."""
        if self._second_at is None:
            return self._source.damage
        return (
            f"more events follow the end of the list at byte {self._second_at} and were not read; split the file there"
        )


HINT = "; a trace of torch.profiler (export_chrome_trace, .json or .json.gz) is needed"


def _whole(text: bytes) -> bool:
    """Whether the text is a JSON document: one that breaks off may have had events further on."""
    try:
        ANY.decode(text)
    except DAMAGE:
        return False
    return True


def _keys(text: bytes) -> dict[str, Any] | None:
    """The top-level keys of an object, without the events; None if it is none."""
    try:
        found: object = ANY.decode(text)
    except DAMAGE:
        found = lenient(text.decode("utf-8", "replace"))
    if not isinstance(found, dict):
        return None
    found.pop("traceEvents", None)
    return found
