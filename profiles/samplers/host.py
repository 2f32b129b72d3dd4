"""The whole machine: CPU use, steal, pressure, load, frequency, quota throttling."""

from __future__ import annotations

import time
from pathlib import Path

from profiles.probes.cgroup import read_throttled_s
from profiles.probes.files import read_int
from profiles.probes.load import CpuTimes, fractions, read_loadavg, read_psi, read_stat


def read_frequency_hz(root: Path = Path("/sys/devices/system/cpu")) -> float | None:
    """Mean clock over the CPUs that say it, None in most virtual machines."""
    files = root.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    found = [khz for f in files if (khz := read_int(f)) is not None]
    return 1e3 * sum(found) / len(found) if found else None


def read_thermal_throttles(root: Path = Path("/sys/devices/system/cpu")) -> float | None:
    """Times that cores were slowed down for heat since boot, over all CPUs; None where the kernel does not count."""
    files = root.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    found = [count for f in files if (count := read_int(f)) is not None]
    return float(sum(found)) if found else None


class HostSampler:
    """Fractions are of all CPUs over the time since the reading before; pressure likewise."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        """Read below `proc`."""
        self._proc = proc
        self._times: CpuTimes | None = None
        self._waits: dict[str, tuple[float, float]] = {}

    def available(self) -> str | None:
        """None, or that /proc/stat cannot be read."""
        return None if read_stat(self._proc) else f"{self._proc}/stat cannot be read"

    def channels(self) -> tuple[str, ...]:
        """Those that this machine can give; the fractions come from the second reading on."""
        wanted = {
            "host_cpu_frac": True,
            "steal_frac": True,
            "psi_cpu_some_frac": read_psi("cpu", self._proc) is not None,
            "psi_memory_some_frac": read_psi("memory", self._proc) is not None,
            "load1": read_loadavg(self._proc) is not None,
            "freq_hz": read_frequency_hz() is not None,
            "throttled_s": read_throttled_s() is not None,
            "thermal_throttles": read_thermal_throttles() is not None,
        }
        return tuple(name for name, there in wanted.items() if there)

    def read(self) -> dict[str, float]:
        """Readings now."""
        levels = {
            "load1": read_loadavg(self._proc),
            "freq_hz": read_frequency_hz(),
            "throttled_s": read_throttled_s(),
            "thermal_throttles": read_thermal_throttles(),
        }
        values = {name: value for name, value in levels.items() if value is not None}
        return values | self._usage() | self._pressure("cpu") | self._pressure("memory")

    def _usage(self) -> dict[str, float]:
        before, self._times = self._times, read_stat(self._proc)
        if before is None or self._times is None:
            return {}
        busy, stolen = fractions(before, self._times)
        return {"host_cpu_frac": busy, "steal_frac": stolen}

    def _pressure(self, resource: str) -> dict[str, float]:
        """From the running total: the kernel's own average lags by 10 s."""
        pressure, now = read_psi(resource, self._proc), time.perf_counter()
        if pressure is None:
            return {}
        before = self._waits.get(resource)
        self._waits[resource] = (now, pressure.total_s)
        if before is None or now <= before[0]:
            return {}
        return {f"psi_{resource}_some_frac": (pressure.total_s - before[1]) / (now - before[0])}
