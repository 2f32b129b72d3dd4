"""asv's results folder: benchmarks.json; per machine, machine.json and a file of the commit. A case is a benchmark."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import msgspec

from bench.errors import UsageError
from bench.exporting import Exported
from bench.records import Manifest, Record
from bench.stats import median_interval, quantile
from profiles.atomic_file import write_atomically

SUFFIX, ALL_RECORDS = "", False
RESULTS_VERSION, BENCHMARKS_VERSION, MACHINE_VERSION = 2, 2, 1
COLUMNS = (
    "result",
    "params",
    "version",
    "started_at",
    "duration",
    "stats_ci_99_a",
    "stats_ci_99_b",
    "stats_q_25",
    "stats_q_75",
    "stats_number",
    "stats_repeat",
    "samples",
)


def write(run: Exported, path: Path) -> Path:
    """A folder to put in place of, or into, asv's `results`."""
    manifest = run.manifest
    if not manifest.commit:
        raise UsageError("asv keeps results by commit, and this run knows none; run the sweep inside a git repository")
    machine = manifest.machine.fingerprint.hash
    home = path / machine
    home.mkdir(parents=True, exist_ok=True)
    environment = f"existing-py{'.'.join(manifest.machine.software.python.split('.')[:2])}"
    _write(path / "benchmarks.json", {"version": BENCHMARKS_VERSION} | _benchmarks(run))
    _write(home / "machine.json", _machine(manifest) | {"version": MACHINE_VERSION})
    file = home / f"{manifest.commit[:8]}-{environment}.json"
    _write(file, _results(run, environment) | {"version": RESULTS_VERSION})
    return file


def _write(path: Path, document: dict[str, Any]) -> None:
    write_atomically(path, msgspec.json.format(msgspec.json.encode(document), indent=1))


def _name(manifest: Manifest, record: Record) -> str:
    return f"{manifest.name}.{record.key}"


def _benchmarks(run: Exported) -> dict[str, Any]:
    return {
        (name := _name(run.manifest, record)): {
            "code": name,
            "name": name,
            "param_names": [],
            "params": [],
            "timeout": 60.0,
            "type": "time",
            "unit": "seconds",
            "version": record.key,
            "number": 0,
            "repeat": 0,
            "min_run_count": 1,
            "rounds": 1,
            "sample_time": 0.01,
            "warmup_time": -1,
        }
        for record in run.measured
    }


def _machine(manifest: Manifest) -> dict[str, str]:
    machine = manifest.machine
    return {
        "arch": machine.cpu.vendor,
        "cpu": machine.cpu.name,
        "machine": machine.fingerprint.hash,
        "num_cpu": str(machine.cpu.logical_cpus),
        "os": f"Linux {machine.software.kernel}",
        "ram": str(machine.memory_bytes // 1024),
    }


def _results(run: Exported, environment: str) -> dict[str, Any]:
    manifest = run.manifest
    began = _milliseconds(manifest.created_at)
    python = ".".join(manifest.machine.software.python.split(".")[:2])
    return {
        "commit_hash": manifest.commit,
        "env_name": environment,
        "date": began,
        "params": _machine(manifest) | {"python": python},
        "python": python,
        "requirements": {},
        "env_vars": {},
        "result_columns": list(COLUMNS),
        "results": {_name(manifest, record): _row(record) for record in run.measured},
        "durations": {},
    }


def _row(record: Record) -> list[Any]:
    """Values of COLUMNS; asv's lists have one entry per combination of parameters, here none, so one."""
    measured = record.measurement
    if measured is None:
        raise ValueError("only records with times can be written")
    times = sorted(measured.times_s)
    low, high = median_interval(times, 0.99)
    duration = record.costs.total_s if record.costs else None
    return [
        [quantile(times, 0.5)],
        [],
        record.key,
        _milliseconds(record.started_at),
        duration,
        [low],
        [high],
        [quantile(times, 0.25)],
        [quantile(times, 0.75)],
        [measured.steps_per_repeat],
        [len(times)],
        [list(measured.times_s)],
    ]


def _milliseconds(stamp: str) -> int:
    """An ISO time as milliseconds since 1970."""
    return round(datetime.datetime.fromisoformat(stamp).timestamp() * 1000)
