"""Intervals of one thread, which nest: the parent of each, the innermost one around a moment, own times."""

from __future__ import annotations

import numpy as np

from profiles.trace.columns import NONE, Int64

_PIECE = 1 << 15


class Nesting:
    """Intervals ordered by start, the longer first. An interval that outlives its parent counts as its child."""

    def __init__(self, starts_ns: Int64, ends_ns: Int64) -> None:
        self.starts_ns, self.ends_ns = starts_ns, ends_ns
        self.parents = _parents(starts_ns, ends_ns)

    def innermost(self, at_ns: Int64) -> Int64:
        """Index of the shortest interval around each moment, NONE outside all."""
        found = np.searchsorted(self.starts_ns, at_ns, side="right") - 1
        while True:
            over = np.flatnonzero(found != NONE)
            over = over[self.ends_ns[found[over]] <= at_ns[over]]
            if not len(over):
                return found
            found[over] = self.parents[found[over]]

    def own_ns(self) -> Int64:
        """Per interval, its duration without what its children cover of it."""
        own = self.ends_ns - self.starts_ns
        children = np.flatnonzero(self.parents != NONE)
        parents = self.parents[children]
        covered = np.minimum(self.ends_ns[children], self.ends_ns[parents]) - self.starts_ns[children]
        np.subtract.at(own, parents, covered)
        return own


def _parents(starts_ns: Int64, ends_ns: Int64) -> Int64:
    """In pieces, as Python's integers take four times the memory of numpy's."""
    parents = np.empty(len(starts_ns), np.int64)
    open_rows, open_ends = list[int](), list[int]()
    for begin in range(0, len(starts_ns), _PIECE):
        piece = slice(begin, begin + _PIECE)
        found = []
        for row, (start, end) in enumerate(zip(starts_ns[piece].tolist(), ends_ns[piece].tolist(), strict=True), begin):
            while open_ends and open_ends[-1] <= start:
                open_ends.pop()
                open_rows.pop()
            found.append(open_rows[-1] if open_rows else NONE)
            open_rows.append(row)
            open_ends.append(end)
        parents[piece] = found
    return parents
