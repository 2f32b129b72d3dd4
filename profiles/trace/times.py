"""Microseconds as decimal text to whole nanoseconds, many at once.

As doubles, microseconds since 1970 have steps of 0.25 us; so starts are read from their digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec
import numpy as np

from profiles.trace.columns import Int64

UNKNOWN = int(np.iinfo(np.int64).min)
"""Stands for a time that is no number."""
_COMMA, _DOT, _ZERO = b",.0"
_POWERS = 10 ** np.arange(19, dtype=np.int64)
_INTS = msgspec.json.Decoder(list[int])


def nanoseconds(text: bytes) -> int:
    """Whole ns of a JSON number of microseconds: b'1.5' is 1500; quotes are ignored. UNKNOWN if it is no number."""
    try:
        exact = Decimal(text.strip(b'" ').decode("ascii"))
        # An exponent of a million would make an integer of a million digits.
        found = int((exact * 1000).to_integral_value()) if exact.adjusted() < 19 else UNKNOWN
    except (ArithmeticError, ValueError):
        return UNKNOWN
    return found if abs(found) < -UNKNOWN else UNKNOWN


def parse(texts: Sequence[msgspec.Raw]) -> Int64:
    """`nanoseconds` of every text; texts of plain digits and one dot, which is what profilers write, are fast."""
    if not texts:
        return np.zeros(0, np.int64)
    joined = b",".join(texts)
    found = _uniform(joined, len(texts))
    if found is None:
        found = _digits(joined, len(texts))
    if found is None:
        found = np.array([nanoseconds(bytes(t)) for t in texts], np.int64)
    return found


def _uniform(joined: bytes, count: int) -> Int64 | None:
    """All whole microseconds, or all with three decimals; None otherwise."""
    dots = joined.count(b".")
    if dots == count:
        raw = np.frombuffer(joined, np.uint8)
        ends = np.append(np.flatnonzero(raw == _COMMA), len(raw))
        at = np.flatnonzero(raw == _DOT)
        if len(ends) != count or not np.all(ends - at == 4):
            return None
        joined = joined.replace(b".", b"")
    elif dots:
        return None
    try:
        values = np.array(_INTS.decode(b"[" + joined + b"]"), np.int64)
    except (msgspec.DecodeError, OverflowError):
        return None
    if len(values) != count or np.abs(values).max() >= 2**63 // 1000:
        return None
    return values if dots else values * 1000


def _digits(joined: bytes, count: int) -> Int64 | None:
    """Any mix of digits with at most one dot each: every digit weighted by its place; rounded to the nearest ns."""
    raw = np.frombuffer(joined, np.uint8)
    commas = np.flatnonzero(raw == _COMMA)
    dots = np.flatnonzero(raw == _DOT)
    is_digit = (raw - _ZERO) < 10
    owner = np.searchsorted(commas, dots)
    if len(commas) != count - 1 or is_digit.sum() + len(dots) + len(commas) != len(raw) or np.any(np.diff(owner) == 0):
        return None
    starts = np.concatenate([[0], commas + 1])
    point = np.append(commas, len(raw))
    if np.any(point == starts):
        return None
    point[owner] = dots
    place = np.repeat(point, np.diff(np.append(starts, len(raw)))) - np.arange(len(raw))
    power = np.where(place > 0, place + 2, place + 3)
    if power.max() > 18:
        return None
    digits = np.where(is_digit, raw - _ZERO, 0).astype(np.int64)
    weighted = np.where(power >= 0, digits * _POWERS[np.maximum(power, 0)], (power == -1) & (digits >= 5))
    found: Int64 = np.add.reduceat(weighted, starts)
    return found if found.min() >= 0 else None
