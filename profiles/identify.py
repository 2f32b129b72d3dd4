"""identify(): what this machine is, without measuring anything and without importing torch."""

from __future__ import annotations

import os
import platform
from typing import Any

from profiles.allocator import allocator_library
from profiles.fingerprint import hard_facts, make_fingerprint
from profiles.machine import Cpu, Fingerprint, Gpu, Machine, Software
from profiles.probes import cgroup, cpu, gpu, load, memory, power, software
from profiles.trust import Conditions, trust_notes


def identify() -> Machine:
    """The machine as this process sees it (its CPU set, its control group, its CUDA devices), without ceilings."""
    visible = cpu.visible_cpus()
    info = cpu.read_cpuinfo(visible)
    processor = make_cpu(info, visible)
    gpus = gpu.read_gpus()
    versions = software.read_software()
    seen = read_conditions(processor)
    return Machine(
        cpu=processor,
        gpus=gpus,
        memory_bytes=memory.memory_bytes(),
        software=versions,
        fingerprint=_fingerprint(processor, info, gpus, versions, seen),
        trust=trust_notes(seen),
    )


def make_cpu(info: cpu.CpuInfo, visible: frozenset[int]) -> Cpu:
    """Join /proc/cpuinfo with what the other files say of the visible CPUs."""
    return Cpu(
        vendor=info.vendor,
        name=info.name,
        family=info.family,
        model=info.model,
        stepping=info.stepping,
        flags=info.flags,
        logical_cpus=len(visible),
        physical_cores=info.physical_cores,
        sockets=info.sockets,
        numa_nodes=cpu.numa_nodes(visible),
        quota_cpus=cgroup.read_quota_cpus(),
        caches=cpu.read_caches(visible),
        hypervisor=cpu.read_hypervisor(info.flags),
    )


def read_conditions(processor: Cpu) -> Conditions:
    """What may disturb measurements right now. Steal is the mean since boot: a moment is too short to show it."""
    times = load.read_stat()
    pressure = load.read_psi("memory")
    return Conditions(
        hypervisor=processor.hypervisor,
        governors=power.read_governors(),
        turbo=power.read_turbo(),
        steal_frac=times.steal / times.total if times and times.total else None,
        hardware_counters=power.has_hardware_counters(),
        load1=load.read_loadavg(),
        logical_cpus=processor.logical_cpus,
        quota_cpus=processor.quota_cpus,
        thp=memory.read_thp(),
        llc_bytes=processor.llc_bytes,
        memory_pressure_frac=pressure.avg10_frac if pressure else None,
    )


def _fingerprint(
    processor: Cpu, info: cpu.CpuInfo, gpus: tuple[Gpu, ...], versions: Software, seen: Conditions
) -> Fingerprint:
    hard = hard_facts(processor, gpus, versions, allocator_library(os.environ))
    return make_fingerprint(hard, _soft(processor, info, gpus, versions, seen), _volatile(info, seen))


def _soft(
    processor: Cpu, info: cpu.CpuInfo, gpus: tuple[Gpu, ...], versions: Software, seen: Conditions
) -> dict[str, Any]:
    """Facts that can move a number but seldom do: a difference warns."""
    return {
        "kernel": versions.kernel,
        "libc": versions.libc,
        "python": versions.python,
        "fbgemm": versions.fbgemm,
        "torchrec": versions.torchrec,
        "microcode": info.microcode,
        "hypervisor": processor.hypervisor,
        "caches": [[c.level, c.size_bytes, c.instances] for c in processor.caches],
        "memory_gib": round(memory.memory_bytes() / 2**30),
        "governors": list(seen.governors),
        "turbo": seen.turbo,
        "thp": seen.thp,
        "gpu_drivers": [g.driver for g in gpus],
        "gpu_power_limits_w": [g.power_limit_w for g in gpus],
    }


def _volatile(info: cpu.CpuInfo, seen: Conditions) -> dict[str, Any]:
    """Facts of the moment, noted and never compared."""
    return {
        "hostname": platform.node(),
        "smt": power.read_smt(),
        "mhz": info.mhz,
        "load1": seen.load1,
        "steal_frac": seen.steal_frac,
    }
