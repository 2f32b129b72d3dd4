"""Machine: what the hardware and software are, as plain frozen data. Probing is in profiles/probes/."""

from __future__ import annotations

from typing import Any

import msgspec


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """One cache level: bytes of one instance, how many instances the visible CPUs have, and the line size."""

    level: int
    size_bytes: int
    instances: int
    line_bytes: int = 64

    @property
    def total_bytes(self) -> int:
        """Bytes of all instances that the visible CPUs reach."""
        return self.size_bytes * self.instances


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    """The processor as the operating system shows it. `quota_cpus` is the cgroup limit, where there is one."""

    vendor: str = "unknown"
    name: str = "unknown"
    family: int = 0
    model: int = 0
    stepping: int = 0
    flags: tuple[str, ...] = ()
    logical_cpus: int = 1
    physical_cores: int = 1
    sockets: int = 1
    numa_nodes: int = 1
    quota_cpus: float | None = None
    caches: tuple[Cache, ...] = ()
    hypervisor: str | None = None

    @property
    def llc_bytes(self) -> int:
        """Bytes of the last-level cache over all instances; 0 where it is not known."""
        data = [c for c in self.caches if c.level >= 2]
        return max(data, key=lambda c: c.level).total_bytes if data else 0

    @property
    def l2_bytes(self) -> int:
        """Bytes of the level-2 caches together; 0 where not known."""
        return sum(c.total_bytes for c in self.caches if c.level == 2)


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One CUDA device. `pci` is its bus id, by which NVML knows it whatever CUDA's numbering; '' in older records."""

    index: int
    name: str
    sm_count: int
    memory_bytes: int
    l2_bytes: int
    compute_capability: str
    mig: bool = False
    driver: str = "unknown"
    power_limit_w: float | None = None
    pci: str = ""


class Software(msgspec.Struct, frozen=True, kw_only=True):
    """Versions that change results. None where a package is not installed."""

    python: str
    torch: str | None = None
    cuda: str | None = None
    blas: str | None = None
    fbgemm: str | None = None
    torchrec: str | None = None
    kernel: str = "unknown"
    libc: str = "unknown"


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """One measured peak: the best rate over its tries, the kernel that reached it and how far the tries lie apart.

    `spread_frac` = (best - median) / best over the tries of that kernel. `source` is 'measured' or 'datasheet'.
    Rates are decimal: bytes or FLOPs per second.
    """

    kernel: str
    source: str
    spread_frac: float
    bytes_per_s: float | None = None
    flops_per_s: float | None = None
    seconds: float | None = None
    working_set_bytes: int | None = None
    row_bytes: int | None = None
    threads: int | None = None


MOST_OTHER_LOAD_FRAC = 0.05
"""More than this share of the CPU time gone to others makes ceilings doubtful."""


class Ceilings(msgspec.Struct, frozen=True, kw_only=True):
    """Measured peaks of one device ('cpu' or 'cuda:0').

    stream_* are taken on arrays far larger than the last-level cache, with all threads; `stream_read_one_thread` on
    one; `stream_read_curve` over working sets; `gather` over row bytes and working sets; `gemm` by dtype name.
    copies, launch latency: CUDA only. `notes` say what falls short of this and why.
    `other_load_frac` is the share of all CPU time that other processes or the host took while measuring.
    """

    device: str
    measured_at: str
    duration_s: float
    stream_read: Ceiling
    stream_write: Ceiling
    stream_copy: Ceiling
    stream_triad: Ceiling
    stream_read_one_thread: Ceiling | None = None
    stream_read_curve: tuple[Ceiling, ...] = ()
    gather: tuple[Ceiling, ...] = ()
    gemm: dict[str, Ceiling] = {}
    copy_host_to_device_pinned: Ceiling | None = None
    copy_host_to_device_pageable: Ceiling | None = None
    copy_device_to_host_pinned: Ceiling | None = None
    copy_device_to_host_pageable: Ceiling | None = None
    launch_latency: Ceiling | None = None
    notes: tuple[str, ...] = ()
    other_load_frac: float = 0.0

    @property
    def disturbed(self) -> bool:
        """Whether others took so much of the CPU time that these ceilings may be too low: they are used, not kept."""
        return self.other_load_frac > MOST_OTHER_LOAD_FRAC


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """Identity in three tiers: `hard` is hashed (a mismatch is not comparable), `soft` warns, `volatile` never does."""

    hash: str
    hard: dict[str, Any]
    soft: dict[str, Any]
    volatile: dict[str, Any]


class Machine(msgspec.Struct, frozen=True, kw_only=True, weakref=True):
    """One machine: identity, and its ceilings per device once they have been measured."""

    cpu: Cpu
    gpus: tuple[Gpu, ...]
    memory_bytes: int
    software: Software
    fingerprint: Fingerprint
    trust: tuple[str, ...] = ()
    ceilings: dict[str, Ceilings] = {}

    def gpu(self, device: str) -> Gpu | None:
        """The GPU that 'cuda' (the first) or 'cuda:N' names; None where there is none."""
        index = int(device.partition(":")[2] or 0) if device.startswith("cuda") else -1
        return next((g for g in self.gpus if g.index == index), None)

    def pci(self, device: str) -> str | None:
        """Bus id of the GPU that `device` names, None where there is none or it is not known."""
        found = self.gpu(device)
        return (found.pci or None) if found else None

    def llc_bytes(self, device: str) -> int:
        """Bytes of the last cache before memory on `device` ('cpu' or 'cuda:N'); 0 where not known."""
        if device.startswith("cuda"):
            found = self.gpu(device)
            return found.l2_bytes if found else 0
        return self.cpu.llc_bytes
