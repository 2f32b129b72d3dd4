"""One line on the conditions a run was made under: what the machine was set to, and what was seen while cases ran."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from bench import metrics
from bench.between import Between
from bench.records import Record
from bench.reporting.case_trust import trust, trust_summary
from bench.reporting.format import percent
from profiles.machine import Machine

UNSEEN = "cannot be seen"


def quality_line(records: Sequence[Record], machine: Machine, apart: Between | None = None) -> str:
    """'governor performance; turbo off; ...; steal 0 %; trust: 3 high, 1 low', facts in a fixed order."""
    return "; ".join((*_set(machine), *_seen(records), *_apart(apart), *_trusted(records, machine)))


def _set(machine: Machine) -> list[str]:
    soft, cpu = machine.fingerprint.soft, machine.cpu
    turbo, smt = soft.get("turbo"), machine.fingerprint.volatile.get("smt")
    return [
        f"governor {', '.join(soft.get('governors') or ()) or UNSEEN}",
        f"turbo {UNSEEN if turbo is None else 'on' if turbo else 'off'}",
        f"SMT {UNSEEN if smt is None else 'on' if smt else 'off'}",
        f"huge pages {soft.get('thp', 'unknown')}",
        f"NUMA nodes {cpu.numa_nodes}",
        f"CPU quota {f'{cpu.quota_cpus:g} of {cpu.logical_cpus}' if cpu.quota_cpus else 'none'}",
        *([f"virtual machine {cpu.hypervisor}"] if cpu.hypervisor else []),
    ]


def _seen(records: Sequence[Record]) -> list[str]:
    """Means and sums over the repeats of all cases; a channel that no case has is said to be unseen."""
    loaded = sum("other_load" in r.measurement.flags for r in records if r.measurement)
    measured = sum(r.measurement is not None for r in records)
    return [
        _share(records, "steal_frac", "steal"),
        f"other load in {loaded} of {measured} cases",
        _growth(records, "throttled_s", "quota throttling", "s"),
        _growth(records, "thermal_throttles", "heat throttling", "times"),
    ]


def _values(record: Record, name: str) -> list[float]:
    return [v for c in record.telemetry if c.name == name for _, v in metrics.during_repeats(record, c)]


def _share(records: Sequence[Record], name: str, title: str) -> str:
    values = [v for r in records for v in _values(r, name)]
    return f"{title} {percent(fmean(values)) if values else UNSEEN}"


def _growth(records: Sequence[Record], name: str, title: str, unit: str) -> str:
    grown = [values[-1] - values[0] for r in records if (values := _values(r, name))]
    return f"{title} {f'{sum(grown):.3g} {unit}' if grown else UNSEEN}"


def _apart(found: Between | None) -> list[str]:
    if found is None:
        return []
    return [f"two processes of one case differ by up to {percent(found.frac)} ({found.pairs} cases measured twice)"]


def _trusted(records: Sequence[Record], machine: Machine) -> list[str]:
    levels = [t for r in records if r.outcome.status == "ok" and (t := trust(r, machine))]
    return [f"trust: {trust_summary(levels)}"] if levels else []
