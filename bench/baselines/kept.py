"""What a baseline keeps: one number per case and run. Frozen data, and how it comes from a run's records."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import msgspec

from bench.records import Manifest, Record
from bench.stats import usable
from profiles.machine import Machine

SCHEMA_VERSION = 1
LEAST_RUNS = 5
DIGITS = 6


class KeptRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run: the median step time of each case, in seconds. failed, skipped: case -> why it has none."""

    run: str
    created_at: str
    commit: str | None
    version: str
    step_s: dict[str, float | None]
    failed: dict[str, str] = {}
    skipped: dict[str, str] = {}


class CaseSummary(msgspec.Struct, frozen=True, kw_only=True):
    """For the reader of the file: centre of the runs, standard deviation of their logarithms, what can be enforced.

    enforceable_frac: the smallest slow-down of one new run that is found 39 times in 40 at the default preset.
    """

    step_s: float
    sd_frac: float
    enforceable_frac: float


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted baseline. `hard`: the facts of the machine whose difference makes times not comparable."""

    schema_version: int
    name: str
    machine: str
    machine_hash: str
    hard: dict[str, Any]
    accepted_at: str
    reason: str
    cases: dict[str, CaseSummary]
    runs: tuple[KeptRun, ...]


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """Runs recorded and not yet accepted, oldest first. `anew`: the next baseline, not more of the one in force."""

    schema_version: int
    name: str
    machine: str
    machine_hash: str
    hard: dict[str, Any]
    anew: bool
    runs: tuple[KeptRun, ...] = ()


def kept_run(name: str, manifest: Manifest, records: Sequence[Record]) -> KeptRun:
    """A sweep run as a baseline keeps it. A time that is no positive number is kept as None, never dropped."""
    begun = {record.key for record in records}
    step_s: dict[str, float | None] = {}
    failed = {key: "the run ended before this case" for key in (c.key() for c in manifest.cases) if key not in begun}
    skipped: dict[str, str] = {}
    for key, record in {r.key: r for r in records}.items():
        if record.outcome.status == "skipped":
            skipped[key] = str(record.outcome.reason)
        elif record.outcome.status != "ok" or record.measurement is None:
            failed[key] = str(record.outcome.reason)
        else:
            step_s[key] = _typical(record.measurement.times_s)
    return KeptRun(
        run=name,
        created_at=manifest.created_at,
        commit=manifest.commit,
        version=manifest.version,
        step_s=step_s,
        failed=failed,
        skipped=skipped,
    )


def _typical(times_s: Sequence[float]) -> float | None:
    return float(f"{median(times_s):.{DIGITS}g}") if usable(times_s) else None


def machine_name(machine: Machine) -> str:
    """The machine in a few words."""
    return ", ".join([machine.cpu.name, *dict.fromkeys(g.name for g in machine.gpus)])
