"""Settings as the process really has them: read from the kernel, from torch and from what the process does.

What was asked and is not in force makes a number that carries the wrong label: `not_in_force` names it, and the case
fails. Huge pages are the kernel's to grant or not: where it did not, the record is flagged instead.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.records import Case, Settings
from bench.running.environment import WAIT_POLICY, cpus_of, in_force
from profiles.allocator import allocator_in_force
from profiles.probes.cgroup import read_quota_cpus, threads_within

SPIN_SLEEP_S = 0.05
SPINNING_FRAC, SLEEPING_FRAC = 0.5, 0.1
"""Idle OpenMP threads that keep at least / at most this much of a CPU each are active / passive."""
PARALLEL_ELEMENTS = 1 << 20
HUGE_TABLES_FRAC = 0.5
"""Tables asked on huge pages count as being there when at least this share of their bytes is."""
BOUNDS_CHECKS = {0: "fatal", 1: "warning", 2: "ignore", 3: "none"}


def read_settings(
    case: Case, grad_mode: bool, bundle: Any = None, inputs: Sequence[Any] = (), output: Any = None
) -> Settings:
    """The settings as the process has them now. `bundle`, its prepared `inputs` and an `output` of its step tell more.

    Runs a parallel region or two and sleeps 50 ms: never between timed steps.
    """
    import torch

    return Settings(
        num_threads=torch.get_num_threads(),
        interop_threads=torch.get_num_interop_threads(),
        affinity=tuple(sorted(os.sched_getaffinity(0))),
        allocator_env=in_force(),
        transparent_huge_pages=_read_text("/sys/kernel/mm/transparent_hugepage/enabled"),
        anon_huge_bytes=_rollup_bytes("AnonHugePages"),
        resident_bytes=_rollup_bytes("Rss"),
        matmul_precision=torch.get_float32_matmul_precision(),
        tf32=case.device.startswith("cuda") and torch.get_float32_matmul_precision() != "highest",
        flush_denormal=flushes_denormals(),
        inference_mode=bool(getattr(output, "is_inference", bool)()),
        grad_mode=grad_mode,
        index_dtype=_index_dtype(inputs),
        gc_disabled=not gc.isenabled(),
        allocator=allocator_in_force(),
        wait_policy_env=os.environ.get(WAIT_POLICY, ""),
        openmp_spin_frac=openmp_spin_frac(),
        bounds_check=_bounds_check(bundle),
    )


def flushes_denormals() -> bool:
    """torch can set it but not say it: a product whose result is denormal tells, of every thread that takes part."""
    import torch

    return not bool((torch.full((PARALLEL_ELEMENTS,), 1e-30) * 1e-10).any())


def openmp_spin_frac() -> float | None:
    """CPUs that each idle OpenMP thread keeps busy, or waits for, in the 50 ms after a parallel region: 1 spinning, 0
    asleep."""
    import torch

    idle = torch.get_num_threads() - 1
    if idle < 1:
        return None
    values = torch.ones(PARALLEL_ELEMENTS)
    values.add_(1.0)
    began, used_s = time.perf_counter(), _cpu_wanted_s()
    time.sleep(SPIN_SLEEP_S)
    return (_cpu_wanted_s() - used_s) / (time.perf_counter() - began) / idle


def _cpu_wanted_s() -> float:
    """CPU time of the process and, where the kernel tells, what its other threads waited for a CPU that was taken."""
    waited_ns = 0
    others = (p for p in Path("/proc/self/task").glob("*/schedstat") if p.parent.name != str(os.getpid()))
    for path in others:
        with contextlib.suppress(OSError, ValueError, IndexError):  # the thread has ended, or the kernel keeps none
            waited_ns += int(path.read_text().split()[1])
    return time.process_time() + waited_ns / 1e9


def _index_dtype(inputs: Sequence[Any]) -> str:
    lookups = getattr(inputs[0], "lookups", ()) if inputs else ()
    return str(lookups[0].indices.dtype).removeprefix("torch.") if lookups else "int64"


def _bounds_check(bundle: Any) -> str | None:
    ops = getattr(bundle.model.embedding, "ops", ()) if bundle is not None else ()
    modes = {int(op.bounds_check_mode_int) for op in ops if hasattr(op, "bounds_check_mode_int")}
    return ", ".join(BOUNDS_CHECKS.get(m, f"mode {m}") for m in sorted(modes)) or None


def not_in_force(case: Case, found: Settings) -> list[str]:
    """What the case asked and the process does not have, as sentences; empty where all is as asked."""
    wanted: dict[str, tuple[object, object]] = {
        "allocator": (case.allocator, found.allocator),
        "flush_denormal": (case.flush_denormal, found.flush_denormal),
        "matmul_precision": ("high" if case.tf32 else case.matmul_precision, found.matmul_precision),
        "num_threads": (case.num_threads or threads_within(len(found.affinity), read_quota_cpus()), found.num_threads),
        "interop_threads": (case.interop_threads or found.interop_threads, found.interop_threads),
        "affinity": (cpus_of(case.affinity) or found.affinity, found.affinity),
    }
    if case.model is not None:
        wanted |= {
            "index_dtype": (case.index_dtype, found.index_dtype),
            "bounds_check": (case.bounds_check, found.bounds_check or "none"),
            "inference_mode": (case.inference_mode, found.inference_mode),
        }
    told = [
        f"{name} {asked!r} was asked, {real!r} is in force" for name, (asked, real) in wanted.items() if asked != real
    ]
    return told + _waiting(case, found)


def _waiting(case: Case, found: Settings) -> list[str]:
    spin = found.openmp_spin_frac
    if spin is None or case.wait_policy == "default":
        return []
    holds = spin >= SPINNING_FRAC if case.wait_policy == "active" else spin <= SLEEPING_FRAC
    return [] if holds else [f"wait_policy {case.wait_policy!r} was asked, idle threads keep {spin:.2f} CPUs busy each"]


def setting_flags(case: Case, found: Settings) -> tuple[str, ...]:
    """Flags for what the kernel did not grant: tables on huge pages, or on small ones."""
    if case.model is None or case.device != "cpu":
        return ()
    share = found.anon_huge_bytes / max(case.model.table_bytes, 1)
    if case.huge_pages:
        return ("small_pages",) if share < HUGE_TABLES_FRAC and case.model.table_bytes >= MIN_HUGE_BYTES else ()
    return ("huge_pages",) if share >= HUGE_TABLES_FRAC else ()


MIN_HUGE_BYTES = 64 << 20
"""Smaller tables hold few whole huge pages; their page size is the cache's affair, not the page tables'."""


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"


def _rollup_bytes(field: str) -> int:
    lines = _read_text("/proc/self/smaps_rollup").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)
