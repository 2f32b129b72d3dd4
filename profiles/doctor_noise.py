"""What keeps a machine from giving the same number twice: each looked at by itself, with the cure if any."""

from __future__ import annotations

import time

from profiles.allocator import find_library, missing_library
from profiles.finding import Finding
from profiles.machine import Machine
from profiles.probes import load, power
from profiles.probes.cgroup import read_throttled_s
from profiles.samplers.host import read_thermal_throttles
from profiles.samplers.memory_traffic import MemoryTrafficSampler

LOOKING_S = 0.5
STOLEN_FRAC, BUSY_FRAC = 0.01, 0.1


def noise_findings(machine: Machine) -> tuple[Finding, ...]:
    """Looks for half a second at who uses the CPUs; the rest is read."""
    before, throttled_s, began = load.read_stat(), read_throttled_s(), time.perf_counter()
    watch = load.LoadWatch()
    time.sleep(LOOKING_S)
    after = load.read_stat()
    stolen = load.fractions(before, after)[1] if before and after else None
    waited_s = (read_throttled_s() or 0.0) - (throttled_s or 0.0)
    return (
        turbo_finding(power.read_turbo()),
        smt_finding(power.read_smt()),
        numa_finding(machine.cpu.numa_nodes),
        steal_finding(stolen, machine.cpu.hypervisor),
        load_finding(watch.other_frac(), machine.cpu.logical_cpus),
        throttle_finding(read_thermal_throttles(), waited_s / (time.perf_counter() - began)),
        allocator_finding(),
        traffic_finding(MemoryTrafficSampler().available()),
    )


def turbo_finding(turbo: bool | None) -> Finding:
    """Turbo: the clock depends on heat and on the other cores."""
    if turbo is None:
        return Finding(topic="turbo", level="warn", found="whether turbo is on cannot be seen here (usual in VMs)")
    if not turbo:
        return Finding(topic="turbo", level="ok", found="off")
    return Finding(
        topic="turbo",
        level="warn",
        found="on: the clock depends on temperature and on the load of the other cores",
        cure="echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo (AMD: echo 0 to .../cpufreq/boost)",
    )


def smt_finding(active: bool | None) -> Finding:
    """Simultaneous multithreading: two threads that share a core slow each other down."""
    if active is None:
        return Finding(topic="smt", level="warn", found="whether CPUs share a core cannot be seen here")
    if not active:
        return Finding(topic="smt", level="ok", found="no two of the visible CPUs share a core")
    return Finding(
        topic="smt",
        level="warn",
        found="on: two CPUs share a core, so threads on both slow each other down",
        cure="give one CPU of each core (--axis affinity=0,2,4,... as `lscpu -e` lists them), or "
        "echo off | sudo tee /sys/devices/system/cpu/smt/control",
    )


def numa_finding(nodes: int) -> Finding:
    """NUMA: tables lie on the node of the thread that first wrote them."""
    if nodes <= 1:
        return Finding(topic="numa", level="ok", found="one node")
    return Finding(
        topic="numa",
        level="warn",
        found=f"{nodes} nodes: rows on the other node are farther away; where they lie depends on who wrote them first",
        cure="numactl --cpunodebind=0 --membind=0 dlrm-bench ... for one node, --interleave=all for all",
    )


def steal_finding(stolen_frac: float | None, hypervisor: str | None) -> Finding:
    """Steal: the host gives this machine's CPU time to others."""
    if stolen_frac is None or stolen_frac <= STOLEN_FRAC:
        return Finding(topic="steal", level="ok", found="the host took no CPU time for others just now")
    return Finding(
        topic="steal",
        level="warn",
        found=f"the host ({hypervisor or 'unknown'}) took {stolen_frac:.1%} of the CPU time for others just now",
        cure="measure on a dedicated host or instance; here, repeat at a quieter time and compare the runs",
    )


def load_finding(other_frac: float, cpus: int) -> Finding:
    """Other processes on the CPUs."""
    if other_frac <= BUSY_FRAC:
        return Finding(topic="other load", level="ok", found="the CPUs are idle but for this")
    found = f"other processes keep {other_frac * cpus:.1f} of {cpus} CPUs busy"
    return Finding(topic="other load", level="warn", found=found, cure="end them (`top` lists them), or wait")


def throttle_finding(thermal: float | None, waiting_frac: float) -> Finding:
    """Slowed down for heat since boot, or stopped by a quota just now."""
    if waiting_frac > 0.001:
        found = f"the CPU quota stopped this group for {waiting_frac:.1%} of the time just now"
        return Finding(topic="throttling", level="warn", found=found, cure="raise the quota, or use fewer threads")
    if thermal:
        found = f"cores were slowed down for heat {thermal:.0f} times since boot"
        return Finding(topic="throttling", level="warn", found=found, cure="cool it, or lock the clock below turbo")
    known = "none seen" if thermal is not None else "none by quota; heat cannot be seen here"
    return Finding(topic="throttling", level="ok", found=known)


def allocator_finding() -> Finding:
    """Allocators that `--axis allocator=...` can have besides glibc's."""
    missing = [reason for name in ("jemalloc", "tcmalloc") if (reason := missing_library(name))]
    there = [str(path) for name in ("jemalloc", "tcmalloc") if (path := find_library(name))]
    found = f"glibc pinned (the default) and as it is; {', '.join(there) or 'no other'}"
    if not missing:
        return Finding(topic="allocators", level="ok", found=found)
    return Finding(topic="allocators", level="missing", found=found, cure="; ".join(missing))


def traffic_finding(reason: str | None) -> Finding:
    """Memory-controller counters."""
    if reason is None:
        return Finding(topic="memory counters", level="ok", found="memory traffic is counted by hardware")
    cure = "sudo sysctl kernel.perf_event_paranoid=0" if "perf_event_paranoid" in reason else "use a bare-metal machine"
    return Finding(topic="memory counters", level="missing", found=reason, cure=cure)
