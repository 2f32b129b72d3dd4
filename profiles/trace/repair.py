"""Events one by one out of text that is not quite JSON: what can be mended is, what cannot is counted and left out.

Met in real traces: control characters and broken UTF-8 in names, Windows paths with unescaped backslashes, NaN and
Infinity as durations, and files that break off in the middle of an event.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from json import JSONDecodeError, JSONDecoder

import msgspec

from profiles.trace.decode import BARE_EVENT, DAMAGE, EVENT, RawEvent

_BOUNDARY = re.compile(rb"\}(?=\s*(?:,\s*\{|\]))")
_BEGIN = re.compile(rb"\{\s*\"")
_SPACE = re.compile(rb"[\s,]*")
_BAD_ESCAPE = re.compile(r"\\(?![\"\\/bfnrt]|u[0-9a-fA-F]{4})")
_BACKSLASH = re.compile(r"\\(?!\")")
_MOST_BOUNDARIES = 6
_LONGEST_EVENT = 1 << 20
# Floats stay text so that no digit of a time is lost; NaN and Infinity are no numbers in JSON.
_LENIENT = JSONDecoder(strict=False, parse_float=str, parse_constant=lambda _: None)
_UNREADABLE = (ValueError, RecursionError)


class Mended(msgspec.Struct, frozen=True, kw_only=True):
    """Events found in a piece of text up to byte `consumed`; `ended` if the array's closing bracket stands there."""

    events: list[RawEvent]
    repaired: int
    lost: int
    consumed: int
    ended: bool


def mend(text: bytes, *, last: bool) -> Mended:
    """Every event of `text`, which begins at or before an element of an array. `last`: no more text follows.

    What is left over at the end, an event that more text may complete, counts as lost only if `last`.
    """
    # Latin-1 has a character for every byte: offsets in the text are offsets in the bytes.
    scan = _Scan(text, text.decode("latin-1"), last=last)
    events = list(scan.events())
    lost = scan.lost + (last and not scan.ended and scan.at < len(text))
    return Mended(events=events, repaired=scan.repaired, lost=lost, consumed=scan.at, ended=scan.ended)


class _Scan:
    """Walks over the elements of an array."""

    def __init__(self, text: bytes, letters: str, *, last: bool) -> None:
        self._text, self._letters, self._last = text, letters, last
        self.at = self.repaired = self.lost = 0
        self.ended = False

    def events(self) -> Iterator[RawEvent]:
        while True:
            begin = _SPACE.match(self._text, self.at).end()  # type: ignore[union-attr]
            if self._text[begin : begin + 1] == b"]":
                self.at, self.ended = begin, True
                return
            if begin >= len(self._text):
                self.at = begin
                return
            found = self._element(begin)
            if found is None:
                return
            yield from found

    def _element(self, begin: int) -> tuple[RawEvent, ...] | None:
        """The event at `begin`, () if it is lost, None if it does not end in this text."""
        try:
            _, end = _LENIENT.raw_decode(self._letters, begin)
        except _UNREADABLE:
            return self._damaged(begin)
        self.at = end
        event, mended = read_event(self._text[begin:end])
        self.repaired += mended and event is not None
        self.lost += event is None
        return () if event is None else (event,)

    def _damaged(self, begin: int) -> tuple[RawEvent, ...] | None:
        """An event that only mending makes readable ends at one of the next boundaries."""
        ends = [found.end() for found in islice(self._boundaries(begin), _MOST_BOUNDARIES)]
        for end in ends if self._text[begin : begin + 1] == b"{" else ():
            event, _ = read_event(self._text[begin:end])
            if event is not None:
                self.at = end
                self.repaired += 1
                return (event,)
        near_end = len(self._text) - begin <= _LONGEST_EVENT
        if near_end and (not ends or (len(ends) < _MOST_BOUNDARIES and not self._last)):
            self.at = begin
            return None
        self.lost += 1
        # Go on at the first boundary: a damaged event must not take its neighbours with it.
        self.at = ends[0] if ends else self._next_begin(begin + _LONGEST_EVENT)
        return ()

    def _boundaries(self, begin: int) -> Iterator[re.Match[bytes]]:
        return _BOUNDARY.finditer(self._text, begin, begin + _LONGEST_EVENT)

    def _next_begin(self, begin: int) -> int:
        found = _BEGIN.search(self._text, begin)
        return found.start() if found else len(self._text)


def read_event(text: bytes) -> tuple[RawEvent | None, bool]:
    """(the event, whether it had to be mended); (None, True) if it cannot be read."""
    try:
        return EVENT.decode(text), False
    except DAMAGE:
        pass
    letters = text.decode("utf-8", "replace")
    for mended in (letters, _BAD_ESCAPE.sub(r"\\\\", letters), _BACKSLASH.sub(r"\\\\", letters)):
        found = lenient(mended)
        if isinstance(found, dict):
            return _typed(_text_of(found)), True
    return None, True


def _text_of(found: object) -> bytes:
    """As JSON; half a pair of UTF-16 surrogates becomes a question mark, as no decoder takes it."""
    return json.dumps(found, ensure_ascii=False).encode("utf-8", "replace")


def lenient(text: str) -> object:
    """A JSON value with control characters, NaN and Infinity allowed (both become null); None if it is none."""
    try:
        return _LENIENT.decode(text)
    except (JSONDecodeError, *_UNREADABLE):
        return None


def _typed(text: bytes) -> RawEvent | None:
    """Without its arguments where only those are of the wrong type."""
    try:
        return EVENT.decode(text)
    except DAMAGE:
        pass
    try:
        bare = BARE_EVENT.decode(text)
    except DAMAGE:
        return None
    return RawEvent(bare.ph, bare.cat, bare.name, bare.pid, bare.tid, bare.ts, bare.dur)
