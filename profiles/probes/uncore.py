"""Memory-controller events as the kernel describes them below /sys/bus/event_source/devices. Parsers take text.

A PMU folder holds `type` (a number), `cpumask` (one CPU per socket), `format/<field>` ("config:0-7") and
`events/<name>` ("event=0x04,umask=0x03") with `.scale` and `.unit` beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from profiles.probes.files import read_int, read_text

DEVICES = Path("/sys/bus/event_source/devices")
READS = ("cas_count_read", "umc_cas_cmd.rd", "data_reads")
WRITES = ("cas_count_write", "umc_cas_cmd.wr", "data_writes")
PMUS = ("uncore_imc*", "amd_umc*")
UNITS = {"MiB": 2**20, "KiB": 2**10, "Bytes": 1, "": 64}
"""Bytes of one scaled count; events without a unit count cache lines."""


class MemoryEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of one memory controller: what perf_event_open needs, and bytes of one count."""

    pmu: str
    kind: str
    pmu_type: int
    config: int
    cpus: tuple[int, ...]
    bytes_per_count: float


def parse_format(text: str) -> tuple[str, int]:
    """(word, lowest bit) of 'config:8-15'; fields scattered over several ranges are refused. ValueError."""
    word, _, bits = text.strip().partition(":")
    if "," in bits:
        raise ValueError(f"a field of several ranges is not supported: {text.strip()!r}")
    return word, int(bits.partition("-")[0])


def parse_config(event: str, formats: Mapping[str, str]) -> int:
    """The 64 bits of 'event=0x04,umask=0x03' by the PMU's formats. ValueError for a field that it does not have."""
    config = 0
    for part in event.strip().split(","):
        name, _, value = part.partition("=")
        if name not in formats:
            raise ValueError(f"the PMU has no field {name!r}")
        word, bit = parse_format(formats[name])
        if word != "config":
            raise ValueError(f"field {name!r} is in {word}, only config is supported")
        config |= int(value or "1", 0) << bit
    return config


def parse_cpus(text: str) -> tuple[int, ...]:
    """CPUs of '0,16' or '0-3'."""
    found: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def bytes_per_count(scale: str | None, unit: str | None) -> float:
    """Bytes of one count of an event with these `.scale` and `.unit` files. ValueError for an unknown unit."""
    name = (unit or "").strip()
    if name not in UNITS:
        raise ValueError(f"unknown unit {name!r}")
    return float((scale or "1").strip()) * UNITS[name]


def memory_events(devices: Path = DEVICES) -> tuple[MemoryEvent, ...]:
    """Read and write events of every memory controller that the kernel shows; those it describes otherwise left out."""
    folders = sorted(f for pattern in PMUS for f in devices.glob(pattern))
    found = [_event(folder, kind, name) for folder in folders for kind, name in _named(folder)]
    return tuple(event for event in found if event is not None)


def _named(folder: Path) -> list[tuple[str, str]]:
    kinds = {"memory_read_bytes": READS, "memory_write_bytes": WRITES}
    return [(kind, n) for kind, names in kinds.items() for n in names if (folder / "events" / n).is_file()]


def _event(folder: Path, kind: str, name: str) -> MemoryEvent | None:
    formats = {f.name: read_text(f) or "" for f in (folder / "format").glob("*")}
    pmu_type, text = read_int(folder / "type"), read_text(folder / "events" / name)
    if pmu_type is None or text is None:
        return None
    try:
        return MemoryEvent(
            pmu=folder.name,
            kind=kind,
            pmu_type=pmu_type,
            config=parse_config(text, formats),
            cpus=parse_cpus(read_text(folder / "cpumask") or "0"),
            bytes_per_count=bytes_per_count(
                read_text(folder / "events" / f"{name}.scale"), read_text(folder / "events" / f"{name}.unit")
            ),
        )
    except ValueError:
        return None
