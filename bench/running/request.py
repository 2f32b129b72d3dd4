"""What a worker is asked and what it answers."""

from __future__ import annotations

import msgspec

from bench.records import Case, Check, Costs, InputStats, Limits, Measurement, Settings, TraceSummary
from workloads.executions import Graphs
from workloads.work import Work


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is asked to do. `scratch` is an empty folder that whoever asks removes, also after a kill.

    `llc_bytes` is the last-level cache as reported, `measured_llc_bytes` where reads really slow down (0: not known).
    """

    case: Case
    limits: Limits
    llc_bytes: int
    measured_llc_bytes: int = 0
    trace_path: str | None = None
    scratch: str | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a Record that only the worker knows."""

    measurement: Measurement
    settings: Settings
    costs: Costs
    work: Work | None = None
    inputs: InputStats | None = None
    check: Check | None = None
    graphs: Graphs | None = None
    trace: TraceSummary | None = None
    parameters: dict[str, int] | None = None
    rounding_error: float | None = None
