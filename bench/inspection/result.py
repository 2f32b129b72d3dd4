"""The JSON document of `inspect`: what one trace says. Times in microseconds, exact to the nanosecond.

`Component`, `Verdict` and the fields that hold them are filled by the analyses that know models; None and () where
they have nothing to say.
"""

from __future__ import annotations

from typing import Any

import msgspec

from bench.inspection.against_result import Comparison
from bench.inspection.model_result import Achieved, Machine, Memory, Operator, Ranks


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """How far the trace can be trusted. `line` says it in one sentence; the rest are its numbers.

    `events_timed` are those with a usable start and duration, without the categories the reader skips.
    `mixed_correlations` are numbers that calls of several processes carry.
    """

    line: str
    events: int
    events_timed: int
    events_repaired: int
    events_lost: int
    times_missing: int
    times_negative: int
    times_absurd: int
    truncated: str | None
    file_damage: str | None
    metadata_lost: bool
    gpu_events: int
    mixed_correlations: int
    kernels_without_launch: int
    launches_without_kernel: int
    stream_overlaps: int
    copies_bytes_unknown: int
    steps: tuple[int, ...]
    steps_missing: tuple[int, ...]
    backward_without_forward: int


class WindowTimes(msgspec.Struct, frozen=True, kw_only=True):
    """The part that was looked at; start and end count from the first event, None for everything."""

    policy: str
    start_us: float | None
    end_us: float | None
    steps: int


class Causes(msgspec.Struct, frozen=True, kw_only=True):
    """Something by the cause of idleness (docs/method/traces.md)."""

    host_late: float
    queued: float
    unknown: float


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One stream of a device. The queue is None where no launch is known."""

    events: int
    sum_us: float
    busy_us: float
    span_us: float
    overlapping: int
    queue_max: int | None
    queue_mean: float | None


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of one device went."""

    name: str | None
    span_us: float
    busy_us: float
    idle_us: float
    sum_us: float
    compute_us: float
    comm_us: float
    mem_us: float
    comm_overlap_us: float
    exposed_comm_us: float
    exposed_mem_us: float
    idle_causes_us: Causes
    idle_causes_n: Causes
    counts: dict[str, int]
    streams: dict[str, Stream]


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the model in one phase (forward, backward): GPU time summed and as wall share, and CPU time."""

    component: str
    phase: str
    gpu_us_sum: float
    gpu_us_wall: float
    cpu_us: float


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of some durations."""

    n: int
    sum: float
    mean: float
    p50: float
    p90: float
    p99: float
    min: float
    max: float


class Launches(msgspec.Struct, frozen=True, kw_only=True):
    """Pairs of launch call and GPU event. Raw delays are negative where work began before its call returned."""

    calls: int
    pairs: int
    shared: int
    most_per_launch: int
    delay_negative: int
    delay_us: Spread
    delay_clipped_us: Spread
    call_us: Spread
    shorter_than_call: int
    by_call: dict[str, int]


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """Copies of one direction. Bytes and rate are None where the profiler wrote none."""

    n: int
    sum_us: float
    bytes: int | None
    bytes_unknown: int
    bytes_per_s: float | None


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """GPU work, or host ops by their own time, of one name. sd is of the sample, 0 for one event."""

    name: str
    n: int
    sum_us: float
    mean_us: float
    median_us: float
    sd_us: float


class Thread(msgspec.Struct, frozen=True, kw_only=True):
    """One thread of the host."""

    pid: int | str
    tid: int | str
    name: str | None
    events: int
    busy_us: float
    span_us: float
    gaps: int
    largest_gap_us: float


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """The threads of the host; busy means that at least one runs an op or a runtime call."""

    span_us: float
    busy_us: float
    idle_us: float
    parallel_efficiency_frac: float
    threads: tuple[Thread, ...]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What bounds the trace, the numbers that say so, and what to try next."""

    kind: str
    evidence: dict[str, Any]
    advice: str


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """One trace. `ops` are host ops by own time, `kernels` GPU work by name, the largest sum first."""

    file: str
    rank: int | None
    quality: Quality
    window: WindowTimes
    devices: dict[str, Device]
    components: tuple[Component, ...] = ()
    coverage_frac: float | None = None
    launches: Launches | None = None
    copies: dict[str, Copy] = {}
    kernels: tuple[Kernel, ...] = ()
    host: Host | None = None
    ops: tuple[Kernel, ...] = ()
    verdict: Verdict | None = None
    operators: tuple[Operator, ...] = ()
    achieved: tuple[Achieved, ...] = ()
    machine: Machine | None = None
    memory: tuple[Memory, ...] = ()


class InspectionSet(msgspec.Struct, frozen=True, kw_only=True):
    """Several traces: the ranks of one job, in order of rank. `comparison` says how they wait for each other.

    `not_compared` says why they are no ranks of one job, where files of one rank were given.
    """

    traces: tuple[Inspection, ...]
    comparison: Ranks | None = None
    not_compared: str = ""
    against: Comparison | None = None
