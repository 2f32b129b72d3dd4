"""The worker process, watched by its pid: memory, faults, switches, CPU use, threads."""

from __future__ import annotations

import os
import time
from pathlib import Path

from profiles.probes.files import read_text

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def parse_stat(text: str) -> dict[str, float]:
    """Channels of /proc/<pid>/stat; cpu_s is user plus system time. The name in it may hold spaces and brackets."""
    fields = text.rpartition(")")[2].split()
    return {
        "minor_faults": float(fields[7]),
        "major_faults": float(fields[9]),
        "cpu_s": (int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
        "threads": float(fields[17]),
        "rss_bytes": float(int(fields[21]) * _PAGE_BYTES),
    }


def parse_switches(text: str) -> dict[str, float]:
    """Context switches of /proc/<pid>/status: those of its main thread."""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    names = {
        "voluntary_switches": "voluntary_ctxt_switches",
        "involuntary_switches": "nonvoluntary_ctxt_switches",
    }
    return {ours: float(fields[theirs]) for ours, theirs in names.items() if theirs in fields}


class ProcessSampler:
    """/proc of one pid. cpu_frac is in CPUs: 2.0 keeps two CPUs busy. Counters run since the process began."""

    def __init__(self, pid: int, proc: Path = Path("/proc")) -> None:
        """Watch `pid`."""
        self._folder = proc / str(pid)
        self._last: tuple[float, float] | None = None

    def available(self) -> str | None:
        """None, or that there is no such process."""
        return None if read_text(self._folder / "stat") else f"{self._folder} cannot be read: no such process?"

    def channels(self) -> tuple[str, ...]:
        """Memory, counters and load of the process."""
        counters = ("minor_faults", "major_faults", "voluntary_switches", "involuntary_switches")
        return ("rss_bytes", *counters, "threads", "cpu_frac")

    def read(self) -> dict[str, float]:
        """Empty once the process has ended; cpu_frac from the second reading on."""
        stat, status = read_text(self._folder / "stat"), read_text(self._folder / "status")
        if not stat:
            return {}
        values = parse_stat(stat) | parse_switches(status or "")
        now, cpu_s = time.perf_counter(), values.pop("cpu_s")
        if self._last and now > self._last[0]:
            values["cpu_frac"] = (cpu_s - self._last[1]) / (now - self._last[0])
        self._last = (now, cpu_s)
        return values
