"""Copies and memsets by direction: how much, how long, how fast. Bandwidth is bytes over time, no mean of rates."""

from __future__ import annotations

import msgspec
import numpy as np

from profiles.trace.columns import NONE
from profiles.trace.gpu import GpuWork, Kind
from profiles.trace.spans import overlap, union


class Copies(msgspec.Struct, frozen=True, kw_only=True):
    """The copies of one name. Bytes and rate are None where no copy says its size, as on ROCm."""

    events: int
    sum_ns: int
    bytes_unknown: int
    bytes: int | None
    bytes_per_s: float | None


def copies(work: GpuWork) -> dict[str, Copies]:
    """By the profiler's name, which says the direction: 'Memcpy HtoD (Pinned -> Device)'."""
    moved = work.only(np.isin(work.kind, (Kind.MEMCPY, Kind.MEMSET)))
    names = work.trace.name[moved.rows]
    return {work.trace.names[code]: _copies(moved.only(names == code)) for code in np.unique(names).tolist()}


def exposed_copies(work: GpuWork) -> dict[str, int]:
    """By the same names, how many ns of one device's copies no kernel hides."""
    is_copy = np.isin(work.kind, (Kind.MEMCPY, Kind.MEMSET))
    kernels = union(work.starts_ns[~is_copy], work.ends_ns[~is_copy])
    found = {}
    for code in np.unique(work.trace.name[work.rows[is_copy]]).tolist():
        mine = is_copy & (work.trace.name[work.rows] == code)
        spans = union(work.starts_ns[mine], work.ends_ns[mine])
        found[work.trace.names[code]] = spans.length - overlap(spans, kernels)
    return found


def _copies(moved: GpuWork) -> Copies:
    sizes = moved.trace.bytes[moved.rows].astype(np.int64)
    known = sizes != NONE
    total = int(sizes[known].sum()) if known.any() else None
    known_ns = int(moved.durs_ns[known].sum())
    return Copies(
        events=len(moved),
        sum_ns=int(moved.durs_ns.sum()),
        bytes_unknown=int(np.count_nonzero(~known)),
        bytes=total,
        bytes_per_s=total / known_ns * 1e9 if total is not None and known_ns else None,
    )
