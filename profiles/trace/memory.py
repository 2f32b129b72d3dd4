"""Memory held over time, per device, from the profiler's memory events (profile_memory=True)."""

from __future__ import annotations

import msgspec
import numpy as np

from profiles.trace.columns import NONE, Int64, MemoryEvents

MOST_POINTS = 2000
_KINDS = {0: "cpu", 1: "cuda", 20: "hip"}


class MemoryTimes(msgspec.Struct, frozen=True, kw_only=True):
    """One device. `from_zero`: the profiler wrote no totals, so bytes count from the first event on.

    `allocations` and `allocated_bytes` are of all requests. The curve (time_ns, held_bytes) keeps every peak of its
    part where it was thinned to MOST_POINTS.
    """

    device: str
    events: int
    allocations: int
    allocated_bytes: int
    peak_bytes: int
    peak_at_ns: int
    peak_reserved_bytes: int | None
    last_bytes: int
    from_zero: bool
    time_ns: tuple[int, ...]
    held_bytes: tuple[int, ...]


def memory_times(events: MemoryEvents) -> tuple[MemoryTimes, ...]:
    """Per device, in order of kind and number; empty where no memory was recorded."""
    keys = events.device_type * (1 << 32) + events.device_id
    return tuple(_device(events, np.flatnonzero(keys == key)) for key in np.unique(keys).tolist())


def _device(events: MemoryEvents, rows: Int64) -> MemoryTimes:
    total = events.total_allocated_bytes[rows]
    from_zero = bool((total == NONE).any())
    held = np.cumsum(events.bytes[rows]) if from_zero else total
    reserved = events.total_reserved_bytes[rows]
    peak = int(np.argmax(held))
    grown = events.bytes[rows][events.bytes[rows] > 0]
    kept = _thinned(held)
    kind, number = int(events.device_type[rows[0]]), int(events.device_id[rows[0]])
    name = _KINDS.get(kind, f"device type {kind}")
    return MemoryTimes(
        device=name if kind == 0 else f"{name}:{number}",
        events=len(rows),
        allocations=len(grown),
        allocated_bytes=int(grown.sum()),
        peak_bytes=int(held[peak]),
        peak_at_ns=int(events.ts_ns[rows[peak]]),
        peak_reserved_bytes=None if (reserved == NONE).any() or not reserved.any() else int(reserved.max()),
        last_bytes=int(held[-1]),
        from_zero=from_zero,
        time_ns=tuple(events.ts_ns[rows[kept]].tolist()),
        held_bytes=tuple(held[kept].tolist()),
    )


def _thinned(held: Int64) -> Int64:
    """Indices of the first, the last, and of each part the highest."""
    if len(held) <= MOST_POINTS:
        return np.arange(len(held))
    edges = np.linspace(0, len(held), MOST_POINTS - 1, dtype=np.int64)
    highest = [
        at + int(np.argmax(held[at:end])) for at, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]
    return np.unique(np.array([0, *highest, len(held) - 1]))
