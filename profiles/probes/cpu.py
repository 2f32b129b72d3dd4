"""The processor from /proc/cpuinfo and /sys/devices/system/cpu. Parsers take text; readers beside them are thin."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from profiles.machine import Cache
from profiles.probes.files import parse_cpu_list, read_text

SYS_CPU = Path("/sys/devices/system/cpu")
CPUINFO = Path("/proc/cpuinfo")

# The instruction sets that torch, oneDNN and fbgemm dispatch on; the other flags cannot change a result.
ISA_FLAGS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512dq", "avx512vl"),
    *("avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_fp16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "svebf16"),
)
_KIB_STEPS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
# Who answers which clock source: the only trace of the hypervisor that needs neither root nor cpuid.
_CLOCK_HYPERVISORS = {"kvm-clock": "kvm", "hyperv_clocksource": "hyperv", "xen": "xen"}


class CpuInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What /proc/cpuinfo says of the visible CPUs. `mhz` is the mean clock at this moment, None where absent."""

    vendor: str = "unknown"
    name: str = "unknown"
    family: int = 0
    model: int = 0
    stepping: int = 0
    microcode: str = "unknown"
    flags: tuple[str, ...] = ()
    physical_cores: int = 1
    sockets: int = 1
    mhz: float | None = None


def parse_cpuinfo(text: str, visible: frozenset[int] | None = None) -> CpuInfo:
    """Read the text of /proc/cpuinfo; `visible` keeps only those logical CPUs (None: all of them)."""
    blocks = [b for b in _blocks(text) if visible is None or _number(b.get("processor", "0")) in visible]
    if not blocks:
        return CpuInfo()
    first = blocks[0]
    clocks = [float(b["cpu MHz"]) for b in blocks if "cpu MHz" in b]
    return CpuInfo(
        vendor=first.get("vendor_id", first.get("CPU implementer", "unknown")),
        name=first.get("model name", "unknown"),
        family=_number(first.get("cpu family", first.get("CPU architecture", "0"))),
        model=_number(first.get("model", first.get("CPU part", "0"))),
        stepping=_number(first.get("stepping", first.get("CPU revision", "0"))),
        microcode=first.get("microcode", "unknown"),
        flags=tuple(first.get("flags", first.get("Features", "")).split()),
        physical_cores=_physical_cores(blocks),
        sockets=len({b.get("physical id", "0") for b in blocks}),
        mhz=sum(clocks) / len(clocks) if clocks else None,
    )


def _physical_cores(blocks: Sequence[Mapping[str, str]]) -> int:
    """Distinct (socket, core); without core ids (ARM) every logical CPU is a core."""
    return len({(b.get("physical id", "0"), b.get("core id", b.get("processor", "0"))) for b in blocks})


def _blocks(text: str) -> list[dict[str, str]]:
    """One mapping per logical CPU; trailing blocks that name no processor (ARM boards) are dropped."""
    pairs = [[line.partition(":") for line in block.splitlines()] for block in text.strip().split("\n\n")]
    blocks = [{key.strip(): value.strip() for key, _, value in block} for block in pairs]
    return [b for b in blocks if "processor" in b]


def _number(text: str) -> int:
    """Decimal or 0x number; 0 for words such as 'unknown'."""
    try:
        return int(text, 0)
    except ValueError:
        return 0


def isa_flags(flags: Sequence[str]) -> tuple[str, ...]:
    """The flags that numeric libraries dispatch on, in a fixed order."""
    return tuple(f for f in ISA_FLAGS if f in flags)


def parse_cache_size(text: str) -> int:
    """Bytes of a sysfs cache size such as '48K', '32M' or '512'. ValueError on anything else."""
    text = text.strip()
    step = _KIB_STEPS.get(text[-1:].upper())
    return int(text[:-1]) * step if step else int(text)


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The texts of one cpu*/cache/index* folder."""

    level: str
    type: str
    size: str
    shared_cpu_list: str
    line: str = "64"


def parse_caches(entries: Sequence[CacheEntry]) -> tuple[Cache, ...]:
    """Data and unified caches by level, each instance counted once however many CPUs share it."""
    instances: dict[int, dict[tuple[int, ...], CacheEntry]] = {}
    for entry in entries:
        if entry.type.strip() != "Instruction":
            shared = parse_cpu_list(entry.shared_cpu_list)
            instances.setdefault(int(entry.level), {})[shared] = entry
    return tuple(_cache(level, tuple(found.values())) for level, found in sorted(instances.items()))


def _cache(level: int, entries: Sequence[CacheEntry]) -> Cache:
    """One level. Where instances differ (hybrid CPUs) the size is their mean, so that the total is right."""
    total = sum(parse_cache_size(e.size) for e in entries)
    line = int(entries[0].line) or 64
    return Cache(level=level, size_bytes=total // len(entries), instances=len(entries), line_bytes=line)


def read_caches(visible: frozenset[int], root: Path = SYS_CPU) -> tuple[Cache, ...]:
    """The caches that the visible CPUs reach; empty where the kernel does not say."""
    entries = []
    for cpu in sorted(visible):
        for folder in sorted((root / f"cpu{cpu}" / "cache").glob("index*")):
            entry = _read_entry(folder)
            if entry is not None:
                entries.append(entry)
    return parse_caches(entries)


def _read_entry(folder: Path) -> CacheEntry | None:
    texts = [read_text(folder / name) for name in ("level", "type", "size", "shared_cpu_list")]
    level, kind, size, shared = texts
    if level is None or kind is None or not size or not shared:
        return None
    line = read_text(folder / "coherency_line_size") or "64"
    return CacheEntry(level=level, type=kind, size=size, shared_cpu_list=shared, line=line)


def visible_cpus() -> frozenset[int]:
    """Logical CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def read_cpuinfo(visible: frozenset[int], path: Path = CPUINFO) -> CpuInfo:
    """CpuInfo of the visible CPUs; defaults where /proc/cpuinfo cannot be read."""
    return parse_cpuinfo(read_text(path) or "", visible)


def numa_nodes(visible: frozenset[int], root: Path = Path("/sys/devices/system/node")) -> int:
    """Memory nodes that own at least one visible CPU; 1 where the kernel does not say."""
    lists = [read_text(folder / "cpulist") or "" for folder in root.glob("node[0-9]*")]
    return max(1, sum(1 for text in lists if visible & set(parse_cpu_list(text))))


def parse_hypervisor(flags: Sequence[str], clocksources: str, vendor: str | None) -> str | None:
    """Name of the hypervisor, 'unidentified' where only its CPU flag shows, None on bare metal.

    `clocksources` is the text of available_clocksource; `vendor` that of /sys/hypervisor/type or of the DMI vendor.
    """
    if vendor in {"xen", "kvm"}:
        return vendor
    if "hypervisor" not in flags:
        return None
    for prefix, name in _CLOCK_HYPERVISORS.items():
        if any(source.startswith(prefix) for source in clocksources.split()):
            return name
    return vendor or "unidentified"


def read_hypervisor(flags: Sequence[str], root: Path = Path("/sys")) -> str | None:
    """`parse_hypervisor` over this machine's files."""
    clocks = read_text(root / "devices/system/clocksource/clocksource0/available_clocksource") or ""
    vendor = read_text(root / "hypervisor/type") or read_text(root / "class/dmi/id/sys_vendor")
    return parse_hypervisor(flags, clocks, vendor)
