"""Frequency governor, turbo and hardware counters: what decides whether the clock stands still and can be watched."""

from __future__ import annotations

from pathlib import Path

from profiles.probes.files import read_int, read_text

SYS = Path("/sys")
PERF_PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")


def read_governors(root: Path = SYS) -> tuple[str, ...]:
    """The distinct frequency governors in use; empty where the kernel controls no frequency (most VMs)."""
    files = (root / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    return tuple(sorted({text for f in files if (text := read_text(f))}))


def parse_turbo(no_turbo: str | None, boost: str | None) -> bool | None:
    """True where turbo is on, from intel_pstate/no_turbo or cpufreq/boost; None where neither says."""
    if no_turbo is not None:
        return no_turbo.strip() == "0"
    return boost.strip() == "1" if boost is not None else None


def read_turbo(root: Path = SYS) -> bool | None:
    """`parse_turbo` over this machine."""
    cpu = root / "devices/system/cpu"
    return parse_turbo(read_text(cpu / "intel_pstate/no_turbo"), read_text(cpu / "cpufreq/boost"))


def read_smt(root: Path = SYS) -> bool | None:
    """Whether two of the CPUs share a core and both are on; None where the kernel does not say."""
    text = read_text(root / "devices/system/cpu/smt/active")
    return text.strip() == "1" if text is not None else None


def has_hardware_counters(root: Path = SYS) -> bool:
    """Whether the kernel exposes a core PMU (absent in most VMs)."""
    devices = root / "bus/event_source/devices"
    return any(next(devices.glob(name), None) for name in ("cpu", "cpu_core", "armv8*"))


def has_memory_counters(root: Path = SYS) -> bool:
    """Whether memory-controller traffic counters are exposed (Intel IMC, AMD data fabric or UMC)."""
    devices = root / "bus/event_source/devices"
    return any(next(devices.glob(name), None) for name in ("uncore_imc*", "amd_df", "amd_umc*"))


def read_perf_paranoid(path: Path = PERF_PARANOID) -> int | None:
    """kernel.perf_event_paranoid, None where perf is not built in."""
    return read_int(path)
