"""The GPU work of a trace: which events it is, what kind, on which device and stream, and who launched it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from profiles.trace.columns import GPU_CATEGORIES, Category, Int64, Process, Trace
from profiles.trace.links import launch_rows


class Kind(IntEnum):
    """What a GPU event does."""

    COMPUTE = 0
    COMM = 1
    MEMCPY = 2
    MEMSET = 3


_COMM_PREFIXES = ("nccl", "rccl")
_COMM_WORDS = ("ncclKernel", "ncclDevKernel", "hccl")
# ROCm copies and fills with kernels of its runtime: copyBuffer, copyBufferAligned, copyBufferRect and so on.
_COPY_KERNEL = "__amd_rocclr_copyBuffer"
_FILL_KERNEL = "__amd_rocclr_fillBuffer"


@dataclass(frozen=True, eq=False, slots=True)
class GpuWork:
    """GPU events by start, arrays of one length. `device` indexes `devices`; `launch` is a row of the trace or NONE."""

    trace: Trace
    rows: Int64
    starts_ns: Int64
    ends_ns: Int64
    kind: NDArray[np.uint8]
    device: Int64
    stream: Int64
    launch: Int64
    devices: tuple[Process, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, wanted: NDArray[np.bool_] | Int64) -> GpuWork:
        """Some of the events, by mask or by index."""
        return replace(
            self,
            rows=self.rows[wanted],
            starts_ns=self.starts_ns[wanted],
            ends_ns=self.ends_ns[wanted],
            kind=self.kind[wanted],
            device=self.device[wanted],
            stream=self.stream[wanted],
            launch=self.launch[wanted],
        )

    @property
    def durs_ns(self) -> Int64:
        """How long each event took."""
        return self.ends_ns - self.starts_ns


def kind_of(name: str) -> Kind:
    """What a kernel of this name does."""
    if name.startswith(_COMM_PREFIXES) or any(word in name for word in _COMM_WORDS):
        return Kind.COMM
    if name.startswith(_COPY_KERNEL):
        return Kind.MEMCPY
    return Kind.MEMSET if name.startswith(_FILL_KERNEL) else Kind.COMPUTE


def gpu_work(trace: Trace) -> GpuWork:
    """Kernels, copies and memsets; no synchronisation, no annotation, no host op that names a stream."""
    rows = trace.rows(*GPU_CATEGORIES)
    category = trace.category[rows]
    kind = np.zeros(len(trace.names), np.uint8)
    for code in np.unique(trace.name[rows[category == Category.KERNEL]]).tolist():
        kind[code] = kind_of(trace.names[code])
    found = kind[trace.name[rows]]
    found[category == Category.MEMCPY] = Kind.MEMCPY
    found[category == Category.MEMSET] = Kind.MEMSET
    lanes = np.unique(trace.lane[rows]).tolist()
    pids = list(dict.fromkeys(trace.lanes[lane][0] for lane in lanes))
    device = np.zeros(len(trace.lanes) + 1, np.int64)
    for lane in lanes:
        device[lane] = pids.index(trace.lanes[lane][0])
    return GpuWork(
        trace=trace,
        rows=rows,
        starts_ns=trace.ts_ns[rows],
        ends_ns=trace.ts_ns[rows] + trace.dur_ns[rows],
        kind=found,
        device=device[trace.lane[rows]],
        stream=trace.stream[rows].astype(np.int64),
        launch=launch_rows(trace, rows),
        devices=tuple(pids),
    )
