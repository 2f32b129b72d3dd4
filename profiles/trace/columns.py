"""One trace file as columns: numpy arrays of one length, a row per complete event, ordered by start.

Whole nanoseconds from `base_ns`. In integer columns NONE (-1) means that the event did not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

NONE = -1
Int64 = NDArray[np.int64]
Ints = NDArray[np.signedinteger[Any]]
"""Integers of the narrowest type that holds the column: widen before arithmetic."""
Process = int | str
Lane = tuple[Process, Process]
"""(pid, tid): a thread of the host, or a stream of a device."""


class Category(IntEnum):
    """What an event is, whatever its writer called it."""

    OTHER = 0
    CPU_OP = 1
    ANNOTATION = 2
    RUNTIME = 3
    DRIVER = 4
    KERNEL = 5
    MEMCPY = 6
    MEMSET = 7
    GPU_ANNOTATION = 8
    SYNC = 9
    OVERHEAD = 10
    PYTHON = 11
    FLOW = 12
    INSTANT = 13


CATEGORIES: Mapping[str, Category] = {
    "cpu_op": Category.CPU_OP,
    "Operator": Category.CPU_OP,
    "user_annotation": Category.ANNOTATION,
    "gpu_user_annotation": Category.GPU_ANNOTATION,
    "cuda_runtime": Category.RUNTIME,
    "Runtime": Category.RUNTIME,
    "mtia_runtime": Category.RUNTIME,
    "xpu_runtime": Category.RUNTIME,
    "privateuse1_runtime": Category.RUNTIME,
    "cuda_driver": Category.DRIVER,
    "privateuse1_driver": Category.DRIVER,
    "kernel": Category.KERNEL,
    "Kernel": Category.KERNEL,
    "mtia_ccp_events": Category.KERNEL,
    "gpu_memcpy": Category.MEMCPY,
    "Memcpy": Category.MEMCPY,
    "gpu_memset": Category.MEMSET,
    "Memset": Category.MEMSET,
    "cuda_sync": Category.SYNC,
    "overhead": Category.OVERHEAD,
    "python_function": Category.PYTHON,
}
"""The words of Kineto since 2021; a word not listed is OTHER."""
GPU_CATEGORIES = (Category.KERNEL, Category.MEMCPY, Category.MEMSET)
LAUNCH_CATEGORIES = (Category.RUNTIME, Category.DRIVER)


class Inputs(msgspec.Struct, frozen=True):
    """What record_shapes wrote of one op: 'Input Dims', 'Input type', 'Concrete Inputs', as in the file, or None."""

    dims: Any
    types: Any
    concrete: Any


class Collective(msgspec.Struct, frozen=True, kw_only=True):
    """What a collective's event says of itself; None where it does not."""

    name: str | None
    dtype: str | None
    in_elements: int | None
    out_elements: int | None
    group_size: int | None
    group: str | None


@dataclass(frozen=True, eq=False, slots=True)
class MemoryEvents:
    """The profiler's memory instants, by time. `bytes` above 0 allocates, below frees; totals NONE where absent.

    `device_type` is torch's number: 0 CPU, 1 CUDA.
    """

    ts_ns: Int64
    bytes: Int64
    total_allocated_bytes: Int64
    total_reserved_bytes: Int64
    device_type: Int64
    device_id: Int64


@dataclass(frozen=True, eq=False, slots=True)
class Metadata:
    """What stands beside the events: devices, the rank, names, and every other top-level key as it is."""

    devices: tuple[Mapping[str, Any], ...]
    distributed: Mapping[str, Any]
    process_names: Mapping[Process, str]
    process_labels: Mapping[Process, str]
    thread_names: Mapping[Lane, str]
    other: Mapping[str, Any]

    @property
    def rank(self) -> int | None:
        """The rank among the processes of the job, where the profiler recorded it."""
        found = self.distributed.get("rank")
        return found if isinstance(found, int) else None


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """What reading one file met. Events with unusable times are in `events` but in no column.

    `kinds` counts events by '<phase>/<category>'. `truncated` says where the file broke off before the end of the
    list of events, `file_damage` what was wrong with the packing of a file whose events are all there.
    """

    events: int
    kinds: dict[str, int]
    events_repaired: int = 0
    events_lost: int = 0
    times_missing: int = 0
    times_negative: int = 0
    times_absurd: int = 0
    metadata_lost: bool = False
    truncated: str | None = None
    file_damage: str | None = None
    bytes_read: int = 0

    @property
    def times_unusable(self) -> int:
        """Complete events left out for their start or duration."""
        return self.times_missing + self.times_negative + self.times_absurd


@dataclass(frozen=True, eq=False, slots=True)
class Trace:
    """The events of one file. Codes index the tables: `name` `names`, `lane` `lanes`, `inputs` `input_table`.

    Rows are ordered by start, then the longer first, then external id, so that a parent comes before its children;
    the order of events in the file does not matter. `phase` is ord() of Chrome's letter: X, and s, t, f of flows,
    whose id is `correlation`. `stream` and `bytes` are filled for GPU events only, `sequence` and `forward_thread`
    for CPU ops. `base_ns + ts_ns` is the file's own clock.
    """

    path: Path
    base_ns: int
    ts_ns: Int64
    dur_ns: Int64
    category: NDArray[np.uint8]
    phase: NDArray[np.uint8]
    lane: Ints
    name: Ints
    correlation: Ints
    stream: Ints
    bytes: Ints
    external_id: Ints
    sequence: Ints
    forward_thread: Ints
    inputs: Ints
    names: tuple[str, ...]
    lanes: tuple[Lane, ...]
    input_table: tuple[Inputs, ...]
    collectives: Mapping[int, Collective]
    memory: MemoryEvents
    metadata: Metadata
    quality: Quality

    def __len__(self) -> int:
        return len(self.ts_ns)

    @property
    def end_ns(self) -> Int64:
        """When each event ended."""
        return self.ts_ns + self.dur_ns

    def rows(self, *categories: Category) -> Int64:
        """The rows of these categories, by start."""
        wanted = np.zeros(256, bool)
        wanted[list(categories)] = True
        return np.flatnonzero(wanted[self.category])

    def text(self, row: int) -> str:
        """The name of one event."""
        return self.names[int(self.name[row])]

    def codes(self, *names: str) -> Int64:
        """The name codes of these names; names that do not occur are left out."""
        wanted = set(names)
        return np.array([code for code, name in enumerate(self.names) if name in wanted], np.int64)
