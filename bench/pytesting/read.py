"""A file that pytest-benchmark wrote, with our fixture or without. No torch, no pytest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from bench.errors import SchemaError, UsageError
from bench.gate.advisory import Timed


class _Benchmark(msgspec.Struct):
    fullname: str
    stats: dict[str, Any]
    extra_info: dict[str, Any] = {}


class _File(msgspec.Struct):
    benchmarks: list[_Benchmark]
    machine_info: dict[str, Any] = {}
    version: str = ""


def read_benchmarks(path: Path) -> list[Timed]:
    """Its benchmarks, each with the rounds; where it keeps no rounds (--benchmark-save), with the median alone.

    The machine is the fingerprint where our fixture left one, else what the file says of the processor. Raises
    UsageError or SchemaError.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise SchemaError(f"{path}: not a file of pytest-benchmark ({error})") from None
    return [_timed(benchmark, _machine(found.machine_info)) for benchmark in found.benchmarks]


def _machine(info: dict[str, Any]) -> str:
    """What identifies the machine in a file without our fixture."""
    cpu = info.get("cpu") or {}
    facts = (info.get("node"), cpu.get("brand_raw") or info.get("processor"), info.get("python_version"))
    return ", ".join(str(f) for f in facts)


def _timed(benchmark: _Benchmark, machine: str) -> Timed:
    stats, name = benchmark.stats, benchmark.fullname
    machine = str(benchmark.extra_info.get("fingerprint") or machine)
    times = stats.get("data") or ([stats["median"]] if stats.get("median") is not None else [])
    numbers = tuple(float(t) for t in times if isinstance(t, int | float))
    if len(numbers) != len(times) or not numbers:
        return Timed(case=name, machine=machine, problem="it holds no times")
    return Timed(case=name, machine=machine, times_s=numbers)
