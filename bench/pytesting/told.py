"""What extra_info of a test is told: machine, work, roof, and what was asked. Plain data under plain names."""

from __future__ import annotations

from typing import Any

from bench.pytesting.asked import Asked
from bench.pytesting.target import Target
from bench.records import Case, Outcome, Record
from bench.roofs import ceilings_of, roof_step_s
from profiles.machine import Machine

SCHEMA_VERSION = 1
NO_WORK = "the step's work is not known: give work="
NO_CEILINGS = "this machine's ceilings are not measured yet: dlrm-bench machine"


def extra_info(
    name: str, target: Target, asked: Asked, machine: Machine, median_s: float | None, counters: dict[str, Any] | None
) -> dict[str, Any]:
    """fraction_of_roof is null where it cannot be known; then fraction_of_roof_missing says why."""
    case = target.case or Case(code=name)
    found: dict[str, Any] = {
        "dlrm_bench_schema": SCHEMA_VERSION,
        "fingerprint": machine.fingerprint.hash,
        "machine": machine.cpu.name,
        "device": case.device,
        "num_inputs": target.num_inputs,
        "metric": asked.metric,
        "tolerance_frac": asked.tolerance_frac,
        "budget_s": asked.budget_s,
    }
    if target.case is not None:
        found["case"] = target.case.key()
    if counters is not None:
        found["counters"] = counters
    return found | _work(target) | _roof(target, case, machine, median_s)


def _work(target: Target) -> dict[str, Any]:
    work = target.work
    if work is None:
        return {}
    return {
        "samples": work.samples,
        "lookups": work.lookups,
        "flops": work.total("flops"),
        "bytes_compulsory": work.total("bytes_compulsory"),
        "bytes_algorithmic": work.total("bytes_algorithmic"),
    }


def _roof(target: Target, case: Case, machine: Machine, median_s: float | None) -> dict[str, Any]:
    missing = None
    record = Record(
        schema_version=1,
        key=case.key(),
        case=case,
        outcome=Outcome(status="ok"),
        machine=machine.fingerprint.hash,
        started_at="",
        work=target.work,
    )
    if target.work is None:
        missing = NO_WORK
    elif ceilings_of(record, machine) is None:
        missing = NO_CEILINGS
    elif median_s is None:
        missing = "nothing was timed"
    least = roof_step_s(record, machine) if missing is None else None
    if least is None or not median_s:
        return {"fraction_of_roof": None, "fraction_of_roof_missing": missing or "the work is empty"}
    return {"fraction_of_roof": least / median_s}
