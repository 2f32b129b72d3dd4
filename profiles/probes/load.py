"""How busy the machine is: /proc/stat, /proc/pressure, /proc/loadavg."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from profiles.probes.files import read_text

PROC = Path("/proc")


class CpuTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Clock ticks since boot over all CPUs. Guest time is inside user time already and is not counted again."""

    user: int
    nice: int
    system: int
    idle: int
    iowait: int = 0
    irq: int = 0
    softirq: int = 0
    steal: int = 0

    @property
    def total(self) -> int:
        """All ticks, busy, idle and stolen."""
        return sum(msgspec.structs.astuple(self))

    @property
    def busy(self) -> int:
        """Ticks in which a CPU of this machine did something."""
        return self.total - self.idle - self.iowait - self.steal


def parse_stat(text: str) -> CpuTimes | None:
    """The 'cpu' line of /proc/stat, None where there is none."""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["cpu"] and len(words) >= 5:
            names = CpuTimes.__struct_fields__
            return CpuTimes(**dict(zip(names, map(int, words[1:9]), strict=False)))
    return None


def fractions(before: CpuTimes, after: CpuTimes) -> tuple[float, float]:
    """(busy, stolen) fraction of all CPU time between two readings; zeros where no tick passed."""
    ticks = after.total - before.total
    if ticks <= 0:
        return 0.0, 0.0
    return (after.busy - before.busy) / ticks, (after.steal - before.steal) / ticks


def other_load_frac(before: CpuTimes, after: CpuTimes, own_s: float, ticks_per_s: float) -> float:
    """Share of all CPU time between two readings that neither idled nor went to this process's `own_s` seconds."""
    ticks = after.total - before.total
    if ticks <= 0:
        return 0.0
    taken = (after.busy - before.busy) + (after.steal - before.steal) - own_s * ticks_per_s
    return max(0.0, taken / ticks)


class Pressure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a PSI file: fraction of the last 10 s in which some task waited, and the total in seconds."""

    avg10_frac: float
    total_s: float


def parse_psi(text: str) -> Pressure | None:
    """The 'some' line of /proc/pressure/*, None where there is none."""
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "some":
            fields = dict(word.split("=", 1) for word in rest.split())
            return Pressure(avg10_frac=float(fields["avg10"]) / 100, total_s=int(fields["total"]) / 1e6)
    return None


def parse_loadavg(text: str) -> float | None:
    """The one-minute load average, None where the text holds none."""
    words = text.split()
    return float(words[0]) if words else None


def read_stat(proc: Path = PROC) -> CpuTimes | None:
    """CPU times of this machine, None where unreadable."""
    return parse_stat(read_text(proc / "stat") or "")


class LoadWatch:
    """Other load since this object was made, as seen by the process that made it."""

    def __init__(self, proc: Path = PROC) -> None:
        """Take the first reading."""
        self._proc = proc
        self._before, self._own_s = read_stat(proc), time.process_time()

    def other_frac(self) -> float:
        """Share of all CPU time that others took so far; 0 where it cannot be read."""
        after, own_s = read_stat(self._proc), time.process_time() - self._own_s
        if self._before is None or after is None:
            return 0.0
        return other_load_frac(self._before, after, own_s, os.sysconf("SC_CLK_TCK"))


def read_psi(resource: str, proc: Path = PROC) -> Pressure | None:
    """Pressure of 'cpu', 'memory' or 'io', None on a kernel without PSI."""
    return parse_psi(read_text(proc / "pressure" / resource) or "")


def read_loadavg(proc: Path = PROC) -> float | None:
    """One-minute load average, None where unreadable."""
    return parse_loadavg(read_text(proc / "loadavg") or "")
