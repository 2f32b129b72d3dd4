"""Google Benchmark's JSON: a repeat is a repetition, with the aggregates that its tools look for; times in nanoseconds.

Its `cpu_time` is the process's; steps are timed on the wall clock alone, so both fields hold that; context says so.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import msgspec

from bench import metrics
from bench.exporting import Exported
from bench.records import Manifest, Record
from profiles.atomic_file import write_atomically

SUFFIX, ALL_RECORDS = ".json", False
NS_PER_S = 1e9


def write(run: Exported, path: Path) -> Path:
    """One file."""
    benchmarks = [row for n, record in enumerate(run.measured) for row in _rows(run.manifest, record, n)]
    document = {"context": _context(run.manifest), "benchmarks": benchmarks}
    write_atomically(path, msgspec.json.format(msgspec.json.encode(document), indent=1))
    return path


def _context(manifest: Manifest) -> dict[str, Any]:
    cpu = manifest.machine.cpu
    return {
        "date": manifest.created_at,
        "host_name": manifest.machine.fingerprint.hash,
        "executable": " ".join(("dlrm-bench", *manifest.argv)),
        "num_cpus": cpu.logical_cpus,
        "cpu_scaling_enabled": False,
        "caches": [{"type": "Unified", "level": c.level, "size": c.size_bytes, "num_sharing": 0} for c in cpu.caches],
        "load_avg": [],
        "library_version": f"dlrm-bench {manifest.version}",
        "library_build_type": "release",
        "json_schema_version": 1,
        "cpu_time": "wall time, as real_time: CPU time is not measured",
    }


def _rows(manifest: Manifest, record: Record, family: int) -> list[dict[str, Any]]:
    measured = record.measurement
    if measured is None:
        raise ValueError("only records with times can be written")
    times = [s * NS_PER_S for s in measured.times_s]
    threads = record.settings.num_threads if record.settings else max(record.case.num_threads, 1)
    shared = {
        "family_index": family,
        "per_family_instance_index": 0,
        "run_name": record.key,
        "repetitions": len(times),
        "threads": threads,
        "time_unit": "ns",
    }
    repetition = shared | {"name": record.key, "run_type": "iteration", "iterations": measured.steps_per_repeat}
    found = [
        repetition | {"repetition_index": n, "real_time": t, "cpu_time": t} | _rates(manifest, record)
        for n, t in enumerate(times)
    ]
    spread = stdev(times) if len(times) > 1 else 0.0
    aggregates = {"mean": fmean(times), "median": median(times), "stddev": spread}
    return found + [shared | _aggregate(record.key, what, value, len(times)) for what, value in aggregates.items()]


def _aggregate(name: str, what: str, value: float, repeats: int) -> dict[str, Any]:
    return {
        "name": f"{name}_{what}",
        "run_type": "aggregate",
        "aggregate_name": what,
        "aggregate_unit": "time",
        "iterations": repeats,
        "real_time": value,
        "cpu_time": value,
    }


def _rates(manifest: Manifest, record: Record) -> dict[str, float]:
    """Of the case as a whole, from its median step."""
    names = {"items_per_second": "samples_per_s", "bytes_per_second": "compulsory_bytes_per_s"}
    found = {theirs: metrics.value(record, manifest.machine, ours) for theirs, ours in names.items()}
    return {name: value for name, value in found.items() if value is not None}
