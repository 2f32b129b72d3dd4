"""Sets of moments as sorted, disjoint intervals: unions, differences and their lengths. Vectorised, exact in ns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from profiles.trace.columns import Int64


class Spans(NamedTuple):
    """Disjoint intervals [start, end), by start, none touching the next; both of shape (n,), in ns."""

    starts: Int64
    ends: Int64

    @property
    def length(self) -> int:
        """How many ns they cover."""
        return int((self.ends - self.starts).sum())


def union(starts: Int64, ends: Int64) -> Spans:
    """The moments inside at least one interval; intervals come in any order and may be empty."""
    if not len(starts):
        return Spans(np.zeros(0, np.int64), np.zeros(0, np.int64))
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(ends[order])
    first = np.flatnonzero(np.append(True, starts[1:] > reach[:-1]))
    last = np.append(first[1:] - 1, len(starts) - 1)
    found = Spans(starts[first], reach[last])
    kept = found.ends > found.starts
    return Spans(found.starts[kept], found.ends[kept])


def both(one: Spans, other: Spans) -> Spans:
    """The union of two sets."""
    return union(np.concatenate([one.starts, other.starts]), np.concatenate([one.ends, other.ends]))


def overlap(one: Spans, other: Spans) -> int:
    """How many ns lie in both."""
    return one.length + other.length - both(one, other).length


def without(one: Spans, other: Spans) -> Spans:
    """The parts of each interval that no interval of the other holds; those of `one` may touch and stay apart."""

    def inside(spans: Spans, at: Int64) -> Int64:
        """Which interval begins last before each moment and ends after it, -1 for none."""
        last = np.searchsorted(spans.starts, at, side="left") - 1
        return np.where((last >= 0) & (spans.ends[last] > at), last, -1) if len(spans.starts) else last

    # A part begins with an interval, or where the other ends inside one; it ends likewise.
    begins = one.starts[inside(Spans(other.starts - 1, other.ends), one.starts) < 0]
    ends = one.ends[inside(Spans(other.starts, other.ends + 1), one.ends) < 0]
    return Spans(
        np.sort(np.concatenate([begins, other.ends[inside(one, other.ends) >= 0]])),
        np.sort(np.concatenate([ends, other.starts[inside(one, other.starts) >= 0]])),
    )


def gaps(spans: Spans) -> Spans:
    """The holes between the intervals."""
    return Spans(spans.ends[:-1], spans.starts[1:])
