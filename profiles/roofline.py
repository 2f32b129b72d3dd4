"""Roofs read off measured ceilings, in bytes or FLOPs per second."""

from __future__ import annotations

import math
from collections.abc import Sequence

from profiles.machine import Ceiling, Ceilings


def interpolate_log(points: Sequence[tuple[float, float]], x: float) -> float:
    """Value at `x` on straight lines in log-log through `points` (x, y), held constant beyond both ends.

    ValueError without points, or where a coordinate is not positive.
    """
    ordered = sorted(points)
    if not ordered or min(min(p) for p in ordered) <= 0 or x <= 0:
        raise ValueError(f"log-log interpolation needs positive points and a positive x, got {ordered} at {x}")
    below = [p for p in ordered if p[0] <= x]
    above = [p for p in ordered if p[0] > x]
    if not below or not above:
        return ordered[0][1] if not below else ordered[-1][1]
    (x0, y0), (x1, y1) = below[-1], above[0]
    share = math.log(x / x0) / math.log(x1 / x0)
    return math.exp(math.log(y0) + share * math.log(y1 / y0))


def stream_roof(ceilings: Ceilings, working_set_bytes: int) -> float:
    """Bytes/s of a sequential read over this working set; the far-memory rate where no curve was measured."""
    points = _by_working_set(ceilings.stream_read_curve)
    if not points:
        return ceilings.stream_read.bytes_per_s or 0.0
    return interpolate_log(points, max(1, working_set_bytes))


def _by_working_set(curve: Sequence[Ceiling]) -> list[tuple[float, float]]:
    """(bytes, rate) of a curve, smallest first, made non-increasing.

    What a larger working set reached, a smaller one can reach too: a dip in a measured curve is a disturbance or
    a weak kernel, no roof.
    """
    points = [(float(c.working_set_bytes), c.bytes_per_s) for c in curve if c.working_set_bytes and c.bytes_per_s]
    roof, best = [], 0.0
    for size, rate in sorted(points, reverse=True):
        best = max(best, rate)
        roof.append((size, best))
    return roof[::-1]


def gather_roof(ceilings: Ceilings, row_bytes: int, working_set_bytes: int) -> float:
    """Bytes/s of random row reads of this size over this working set: log-log in both, clamped outside the grid.

    ValueError where no gather was measured.
    """
    rows = sorted({c.row_bytes for c in ceilings.gather if c.row_bytes})
    if not rows:
        raise ValueError(f"no gather ceiling was measured on {ceilings.device}: measure the machine again")
    curves = {r: _by_working_set([c for c in ceilings.gather if c.row_bytes == r]) for r in rows}
    points = [(float(r), interpolate_log(curve, max(1, working_set_bytes))) for r, curve in curves.items()]
    return interpolate_log(points, max(1, row_bytes))


def gemm_roof(ceilings: Ceilings, dtype: str) -> float:
    """FLOP/s of the best matrix product of this dtype. ValueError names the dtypes measured where it is not one."""
    found = ceilings.gemm.get(dtype)
    if found is None or not found.flops_per_s:
        known = ", ".join(sorted(ceilings.gemm)) or "none"
        raise ValueError(f"no matrix-product ceiling for dtype {dtype!r} on {ceilings.device}; measured: {known}")
    return found.flops_per_s
