"""pytest-benchmark's JSON: a case is a benchmark, a repeat a round. Its own `compare` reads the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from bench import metrics
from bench.exporting import Exported
from bench.pytesting.round_stats import round_stats
from bench.records import Manifest, Record
from profiles.atomic_file import write_atomically

SUFFIX, ALL_RECORDS = ".json", False
EXTRA = ("fraction_of_roof", "samples_per_s", "compulsory_bytes_per_s", "flops_per_s")


def write(run: Exported, path: Path) -> Path:
    """One file."""
    manifest = run.manifest
    document = {
        "machine_info": _machine_info(manifest),
        "commit_info": {"id": manifest.commit, "dirty": None, "branch": None, "time": None, "project": manifest.name},
        "benchmarks": [_benchmark(manifest, record) for record in run.measured],
        "datetime": manifest.created_at,
        "version": f"dlrm-bench {manifest.version}",
    }
    write_atomically(path, msgspec.json.format(msgspec.json.encode(document), indent=1))
    return path


def _machine_info(manifest: Manifest) -> dict[str, Any]:
    machine, software = manifest.machine, manifest.machine.software
    return {
        "node": machine.fingerprint.hash,
        "processor": machine.cpu.name,
        "machine": machine.cpu.vendor,
        "python_version": software.python,
        "python_implementation": "CPython",
        "system": "Linux",
        "release": software.kernel,
        "cpu": {"brand_raw": machine.cpu.name, "count": machine.cpu.logical_cpus},
    }


def _benchmark(manifest: Manifest, record: Record) -> dict[str, Any]:
    measured = record.measurement
    if measured is None:
        raise ValueError("only records with times can be written")
    work = record.work
    extra: dict[str, Any] = {
        name: metrics.value(record, manifest.machine, name) for name in EXTRA if name in metrics.BY_NAME
    }
    extra |= {"case": record.key, "fingerprint": record.machine, "clock": measured.clock}
    if work is not None:
        extra |= {"flops": work.total("flops"), "bytes_compulsory": work.total("bytes_compulsory")}
    return {
        "group": manifest.name,
        "name": record.key,
        "fullname": record.key,
        "params": None,
        "param": None,
        "extra_info": extra,
        "options": {"disable_gc": True, "timer": measured.clock, "warmup": bool(measured.warmup_steps)},
        "stats": round_stats(measured.times_s) | {"iterations": measured.steps_per_repeat},
    }
