"""Intervals of one thread, which nest: the parent of each, the innermost one around a moment, own times."""

from __future__ import annotations

import numpy as np

from profiles.trace.columns import NONE, Int64


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
    parents, ends, stack = [], ends_ns.tolist(), list[int]()
    for at, start in enumerate(starts_ns.tolist()):
        while stack and ends[stack[-1]] <= start:
            stack.pop()
        parents.append(stack[-1] if stack else NONE)
        stack.append(at)
    return np.array(parents, np.int64)
