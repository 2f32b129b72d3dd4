"""Where the last-level cache really ends, by the measured curve of reads over the working set. Plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from profiles.machine import Ceiling

LEAST_DROP = 1.5
"""A curve that falls by less than this has no edge: what it covers is all cache, or all memory."""


def cache_boundary_bytes(curve: Sequence[Ceiling]) -> int | None:
    """The working set at which reads fall to the geometric middle of the fastest and the last, or None without an edge.

    Between two points of the curve it is interpolated on logarithmic scales. What a virtual machine reports as its
    cache may be shared with neighbours: then this is less.
    """
    points = sorted((c.working_set_bytes, c.bytes_per_s) for c in curve if c.working_set_bytes and c.bytes_per_s)
    if len(points) < 3:
        return None
    fastest, last = max(rate for _, rate in points), points[-1][1]
    if fastest < LEAST_DROP * last:
        return None
    middle = math.sqrt(fastest * last)
    edges = [(a, b) for a, b in pairwise(points) if a[1] >= middle > b[1]]
    (size, rate), (next_size, next_rate) = edges[-1]
    along = math.log(rate / middle) / math.log(rate / next_rate)
    return round(size * math.pow(next_size / size, along))
