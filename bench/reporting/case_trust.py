"""How far one case's number can be trusted: high, medium or low, with every reason against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from bench import metrics, stats
from bench.records import Record
from bench.reporting.format import percent
from profiles.machine import Machine
from profiles.samplers.nvml import SLOWDOWNS

Level = Literal["high", "medium", "low"]

LOW_FLAGS = {
    "other_load": "something else used the CPUs meanwhile",
    "not_steady": "the step never became steady",
    "bimodal": "repeats fall into two groups",
    "page_faults": "memory is faulted in again in every step",
    "recompiled": "the step was compiled again while timing",
}
MEDIUM_FLAGS = {
    "imprecise": "the interval is wider than asked",
    "outliers": "more than one repeat in twenty lies far outside the rest",
    "small_pages": "tables lie on 4 KiB pages although huge ones were asked",
    "huge_pages": "tables lie on huge pages although small ones were asked",
    "host_bound": "the host, not the device, sets the time",
}
STOLEN_FRAC, WAITED_FRAC, MEMORY_WAIT_FRAC = 0.01, 0.2, 0.01
FREQUENCY_SPREAD_FRAC = 0.05
OWN_GPU_PROCESSES = 1
WIDE_FRAC = 0.1


class Trust(NamedTuple):
    """A level and the reasons that made it so, the heaviest first; none for high."""

    level: Level
    reasons: tuple[str, ...]


def trust(record: Record, machine: Machine) -> Trust | None:
    """Of a measured case; None where nothing was measured."""
    found = record.measurement
    if found is None or not found.times_s:
        return None
    heavy = [text for flag, text in LOW_FLAGS.items() if flag in found.flags] + _disturbed(record)
    if stats.half_width_frac(found.times_s) > WIDE_FRAC:
        heavy.append(f"the median is known to {percent(stats.half_width_frac(found.times_s))} only")
    light = [text for flag, text in MEDIUM_FLAGS.items() if flag in found.flags] + _machine(record, machine)
    if len(found.times_s) < stats.FEWEST:
        heavy.append(f"only {len(found.times_s)} repeats")
    level: Level = "low" if heavy else "medium" if light else "high"
    return Trust(level, (*heavy, *light))


def _disturbed(record: Record) -> list[str]:
    """What the telemetry saw while the repeats ran."""
    means = {c.name: _mean(record, c.name) for c in record.telemetry}
    told = []
    if (stolen := means.get("steal_frac") or 0.0) > STOLEN_FRAC:
        told.append(f"the host took {percent(stolen)} of the CPU time for others (steal)")
    if (throttled := _grown(record, "throttled_s")) > 0:
        told.append(f"the CPU quota stopped the process for {throttled:.3f} s")
    if (waited := means.get("psi_memory_some_frac") or 0.0) > MEMORY_WAIT_FRAC:
        told.append(f"tasks waited for memory in {percent(waited)} of the time")
    if (slow := _grown(record, "thermal_throttles")) > 0:
        told.append(f"the processor slowed down for heat {slow:.0f} times")
    spread = _spread(record, "freq_hz")
    if spread > FREQUENCY_SPREAD_FRAC:
        told.append(f"the clock moved by {percent(spread)} while timing")
    return told + _gpu_disturbed(record)


def _gpu_disturbed(record: Record) -> list[str]:
    """What NVML saw of the GPU while the repeats ran; nothing for a case on the CPU."""
    told = []
    seen = [int(bits) for bits in _values(record, "gpu_throttle_reasons")]
    slowed = [name for name, mask in SLOWDOWNS.items() if any(bits & mask for bits in seen)]
    if slowed:
        told.append(f"the GPU slowed down for {', '.join(slowed)}")
    spread = _spread(record, "gpu_sm_clock_hz")
    if spread > FREQUENCY_SPREAD_FRAC:
        told.append(f"the GPU's clock moved by {percent(spread)} while timing")
    if (processes := max(_values(record, "gpu_processes"), default=0.0)) > OWN_GPU_PROCESSES:
        told.append(f"{processes:.0f} processes had the GPU open, of which the case is one")
    return told


def _machine(record: Record, machine: Machine) -> list[str]:
    """What the machine is, as far as it keeps any case from being known well."""
    told = []
    if machine.cpu.hypervisor and record.case.device == "cpu":
        told.append(f"virtual machine ({machine.cpu.hypervisor}): neighbours can change its speed between runs")
    governors = [g for g in machine.fingerprint.soft.get("governors", []) if g != "performance"]
    if governors:
        told.append(f"the frequency governor is {', '.join(governors)}")
    if machine.fingerprint.soft.get("turbo"):
        told.append("turbo is on")
    return told


def _values(record: Record, name: str) -> list[float]:
    channel = next((c for c in record.telemetry if c.name == name), None)
    return [v for _, v in metrics.during_repeats(record, channel)] if channel else []


def _mean(record: Record, name: str) -> float | None:
    values = _values(record, name)
    return sum(values) / len(values) if values else None


def _grown(record: Record, name: str) -> float:
    values = _values(record, name)
    return values[-1] - values[0] if values else 0.0


def _spread(record: Record, name: str) -> float:
    values = _values(record, name)
    return max(values) / min(values) - 1 if values and min(values) > 0 else 0.0


def trust_summary(found: Sequence[Trust]) -> str:
    """'3 high, 2 medium, 1 low' of the cases of a run."""
    counts = {level: sum(t.level == level for t in found) for level in ("high", "medium", "low")}
    return ", ".join(f"{n} {level}" for level, n in counts.items() if n)
