"""The machine and its ceilings as rows of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from bench.reporting.format import capacity, percent, rate, seconds
from profiles.machine import Ceiling, Ceilings, Cpu, Machine


class CeilingRow(NamedTuple):
    """One measured peak in words."""

    what: str
    best: str
    spread: str
    kernel: str
    source: str
    details: str


def machine_rows(machine: Machine) -> list[tuple[str, str]]:
    """(what, value) of the hardware and software, as far as known."""
    cpu, software = machine.cpu, machine.software
    rows = [("CPU", f"{cpu.name}, {_cores(cpu)}"), ("Caches", _caches(cpu)), ("Memory", capacity(machine.memory_bytes))]
    rows += [(f"GPU {g.index}", f"{g.name}, {g.sm_count} SMs, {capacity(g.memory_bytes)}, L2 {capacity(g.l2_bytes)}, "
              f"driver {g.driver}") for g in machine.gpus]  # fmt: skip
    rows += [("Hypervisor", cpu.hypervisor or "")]
    versions = {f: getattr(software, f) for f in software.__struct_fields__}
    rows += [("Software", ", ".join(f"{name} {value}" for name, value in versions.items() if value))]
    rows += [("Fingerprint", machine.fingerprint.hash)]
    return [(what, value) for what, value in rows if value]


def _cores(cpu: Cpu) -> str:
    quota = f", quota {cpu.quota_cpus:g} CPUs" if cpu.quota_cpus else ""
    parts = [_some(cpu.logical_cpus, "logical CPU"), "on", _some(cpu.physical_cores, "core") + ","]
    return " ".join([*parts, _some(cpu.sockets, "socket")]) + quota


def _some(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _caches(cpu: Cpu) -> str:
    data = sorted(cpu.caches, key=lambda c: c.level)
    return ", ".join(
        f"L{c.level} {capacity(c.size_bytes)}" + (f" × {c.instances}" if c.instances > 1 else "") for c in data
    )


def ceiling_rows(machine: Machine) -> list[CeilingRow]:
    """Every ceiling of every device; gathers at their largest working set, the smaller ones in the details."""
    devices = machine.ceilings
    return [
        row._replace(what=f"{device}: {row.what}") if len(devices) > 1 else row
        for device, ceilings in devices.items()
        for row in _of_device(ceilings)
    ]


SINGLE = (
    ("stream_read", "stream read"),
    ("stream_write", "stream write"),
    ("stream_copy", "stream copy"),
    ("stream_triad", "stream triad"),
    ("stream_read_one_thread", "stream read, one thread"),
    ("copy_host_to_device_pinned", "copy to device, pinned"),
    ("copy_host_to_device_pageable", "copy to device, pageable"),
    ("copy_device_to_host_pinned", "copy to host, pinned"),
    ("copy_device_to_host_pageable", "copy to host, pageable"),
    ("launch_latency", "launch latency"),
)


def ceiling_summary(machine: Machine) -> str:
    """The three that matter most, of the first device: stream, gather at the widest rows, matrix products."""
    ceilings = next(iter(machine.ceilings.values()), None)
    if ceilings is None:
        return ""
    gather = max(ceilings.gather, key=lambda c: (c.row_bytes or 0, c.working_set_bytes or 0), default=None)
    parts = [f"stream read {_best(ceilings.stream_read)}"]
    parts += [f"gather of {gather.row_bytes} B rows {_best(gather)}"] if gather else []
    parts += [f"{dtype} products {_best(found)}" for dtype, found in ceilings.gemm.items()]
    return " · ".join(parts)


def _of_device(ceilings: Ceilings) -> Iterator[CeilingRow]:
    for field, what in SINGLE:
        found = getattr(ceilings, field)
        if found is not None:
            yield _row(what, found)
    for row_bytes in sorted({c.row_bytes for c in ceilings.gather if c.row_bytes}):
        own = sorted((c for c in ceilings.gather if c.row_bytes == row_bytes), key=lambda c: c.working_set_bytes or 0)
        yield _row(f"gather, {row_bytes} B rows", own[-1], _smaller_sets(own[:-1]))
    for dtype, found in ceilings.gemm.items():
        yield _row(f"matrix product, {dtype}", found)


def _smaller_sets(own: list[Ceiling]) -> str:
    parts = [f"{_best(c)} in {capacity(c.working_set_bytes)}" for c in own if c.working_set_bytes]
    return f"; {', '.join(parts)}" if parts else ""


def _row(what: str, found: Ceiling, more: str = "") -> CeilingRow:
    size = f"over {capacity(found.working_set_bytes)}" if found.working_set_bytes else ""
    threads = _some(found.threads, "thread") if found.threads else ""
    details = ", ".join(filter(None, (size, threads))) + more
    return CeilingRow(what, _best(found), percent(found.spread_frac), found.kernel, found.source, details)


def _best(found: Ceiling) -> str:
    if found.bytes_per_s is not None:
        return rate(found.bytes_per_s, "B/s")
    if found.flops_per_s is not None:
        return rate(found.flops_per_s, "FLOP/s")
    return seconds(found.seconds) if found.seconds is not None else "–"
