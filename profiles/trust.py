"""What limits trust in numbers from a machine: each note one plain sentence with what to do about it."""

from __future__ import annotations

import msgspec

_MANY_STOLEN_FRAC = 0.01
_BUSY_LOAD_FRAC = 0.25
_BIG_VM_CACHE_PER_CPU_BYTES = 16 << 20


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen while the machine was identified. None: it could not be read."""

    hypervisor: str | None = None
    governors: tuple[str, ...] = ()
    turbo: bool | None = None
    steal_frac: float | None = None
    hardware_counters: bool = True
    load1: float | None = None
    logical_cpus: int = 1
    quota_cpus: float | None = None
    thp: str = "unknown"
    llc_bytes: int = 0
    memory_pressure_frac: float | None = None


def trust_notes(seen: Conditions) -> tuple[str, ...]:
    """One sentence per condition that makes numbers noisier or harder to check; empty on a quiet bare machine."""
    notes = (*_virtual(seen), *_clock(seen), *_load(seen), *_limits(seen))
    return tuple(notes)


def _virtual(seen: Conditions) -> list[str]:
    notes = []
    if seen.hypervisor:
        notes.append(f"This is a virtual machine ({seen.hypervisor}): neighbours on the host can change its speed.")
        if seen.llc_bytes > _BIG_VM_CACHE_PER_CPU_BYTES * seen.logical_cpus:
            notes.append(
                f"The last-level cache shown ({seen.llc_bytes / 2**20:.0f} MiB for {seen.logical_cpus} CPUs) is the "
                "host's and may be shared with neighbours: how much of it this machine keeps can change at any time."
            )
    if not seen.hardware_counters:
        notes.append("No hardware counters are exposed: memory traffic is modelled, not measured.")
    return notes


def _clock(seen: Conditions) -> list[str]:
    notes = []
    slow = [g for g in seen.governors if g != "performance"]
    if slow:
        notes.append(
            f"The frequency governor is {', '.join(slow)}: the clock may change while timing; "
            "`cpupower frequency-set -g performance` holds it."
        )
    if not seen.governors:
        notes.append("The CPU frequency cannot be seen or set here, so clock changes go unnoticed.")
    if seen.turbo:
        notes.append("Turbo is on: the clock depends on temperature and on the load of the other cores.")
    return notes


def _load(seen: Conditions) -> list[str]:
    notes = []
    if seen.steal_frac is not None and seen.steal_frac > _MANY_STOLEN_FRAC:
        notes.append(f"The host has taken {seen.steal_frac:.1%} of the CPU time for others (steal).")
    if seen.load1 is not None and seen.load1 > _BUSY_LOAD_FRAC * seen.logical_cpus:
        notes.append(f"Other load: the one-minute load average is {seen.load1:.2f} on {seen.logical_cpus} CPUs.")
    if seen.memory_pressure_frac:
        notes.append(f"Tasks waited for memory in {seen.memory_pressure_frac:.1%} of the last 10 s.")
    return notes


def _limits(seen: Conditions) -> list[str]:
    notes = []
    if seen.quota_cpus is not None and seen.quota_cpus < seen.logical_cpus:
        notes.append(
            f"A CPU quota of {seen.quota_cpus:g} on {seen.logical_cpus} visible CPUs throttles bursts: "
            "use no more threads than the quota."
        )
    if seen.thp == "never":
        notes.append("Transparent huge pages are off: tables lie on 4 KiB pages and gathers run slower.")
    return notes
