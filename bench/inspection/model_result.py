"""What analyses that know models add to the JSON document of `inspect`. Times in microseconds, rates per second."""

from __future__ import annotations

import msgspec


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """All calls of one operator in one component and pass, a row per `dtype` and convention where these differ.

    FLOPs, bytes and rates are of the `n_known` calls with known work.

    `bytes_convention`: algorithmic, logical (lookups), message (collectives), unknown. Rates are over GPU time, over
    the host's time where there is no GPU. `fraction_of_roof` needs --machine.
    """

    name: str
    component: str
    phase: str
    n: int
    n_known: int
    sum_us: float
    flops: float
    bytes: float
    bytes_convention: str
    dtype: str
    flops_per_s: float | None
    bytes_per_s: float | None
    intensity: float | None
    fraction_of_roof: float | None


class Achieved(msgspec.Struct, frozen=True, kw_only=True):
    """What a component reached where its work is known: `known_frac` of its operators' time."""

    component: str
    phase: str
    known_frac: float
    flops_per_s: float | None
    bytes_per_s: float | None
    fraction_of_roof: float | None


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The ceilings that operators were held against."""

    name: str
    source: str
    bytes_per_s: float
    flops_per_s: dict[str, float]


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Memory held on one device over time. `from_zero`: counted from the first event, the profiler gave no totals."""

    device: str
    events: int
    allocations: int
    allocated_bytes: int
    peak_bytes: int
    peak_at_us: float
    peak_reserved_bytes: int | None
    from_zero: bool
    time_us: tuple[float, ...]
    held_bytes: tuple[int, ...]


class Rank(msgspec.Struct, frozen=True, kw_only=True):
    """One rank among the others. Waiting and transfer are of its collectives that were aligned, None without one."""

    rank: int | None
    file: str
    span_us: float
    busy_us: float
    idle_us: float
    compute_us: float
    comm_us: float
    exposed_comm_us: float
    transfer_us: float | None
    waiting_us: float | None
    last_count: int | None


class Ranks(msgspec.Struct, frozen=True, kw_only=True):
    """The ranks of one job. `straggler` waits least while the others wait for it; None where nobody stands out.

    Only collectives of all ranks name it. `left_out` are kinds of collectives that the ranks of their group did not
    launch equally often, or whose group only one rank has, with their counts.
    """

    ranks: tuple[Rank, ...]
    collectives: int
    left_out: dict[str, tuple[int, ...]]
    straggler: int | None
    summary: str
