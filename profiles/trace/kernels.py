"""GPU work by name: how often, how long, how steady."""

from __future__ import annotations

import msgspec
import numpy as np

from profiles.trace.gpu import GpuWork


class KernelTimes(msgspec.Struct, frozen=True, kw_only=True):
    """All events of one name, in ns. `sd_ns` is the sample standard deviation, 0 for a single event."""

    name: str
    n: int
    sum_ns: int
    mean_ns: float
    median_ns: float
    sd_ns: float
    min_ns: int
    max_ns: int


def kernels(work: GpuWork) -> tuple[KernelTimes, ...]:
    """The largest sum first."""
    if not len(work):
        return ()
    names, durs = work.trace.name[work.rows].astype(np.int64), work.durs_ns
    order = np.lexsort([durs, names])
    codes, firsts = np.unique(names[order], return_index=True)
    found = [
        _times(work.trace.names[code], part)
        for code, part in zip(codes.tolist(), np.split(durs[order], firsts[1:]), strict=True)
    ]
    return tuple(sorted(found, key=lambda k: (-k.sum_ns, k.name)))


def _times(name: str, durs_ns: np.ndarray) -> KernelTimes:
    """Of sorted durations."""
    n, total = len(durs_ns), int(durs_ns.sum())
    return KernelTimes(
        name=name,
        n=n,
        sum_ns=total,
        mean_ns=total / n,
        median_ns=(int(durs_ns[(n - 1) // 2]) + int(durs_ns[n // 2])) / 2,
        sd_ns=float(durs_ns.std(ddof=1)) if n > 1 else 0.0,
        min_ns=int(durs_ns[0]),
        max_ns=int(durs_ns[-1]),
    )
