"""Settings that change the number: put in force before a case, read back from the process after it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.records import Case, Settings
from bench.running.environment import in_force


def apply_settings(case: Case) -> int:
    """Put the case's settings in force; returns the number of threads."""
    import torch

    threads = case.num_threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high" if case.tf32 else "highest")
    if case.device.startswith("cuda"):
        # Events, synchronisation and memory statistics are those of the current device.
        torch.cuda.set_device(torch.device(case.device))
    torch.manual_seed(case.seed)
    torch.autograd.set_detect_anomaly(False)
    return threads


def read_settings(case: Case, grad_mode: bool) -> Settings:
    """The settings as the process has them now."""
    import torch

    return Settings(
        num_threads=torch.get_num_threads(),
        interop_threads=torch.get_num_interop_threads(),
        affinity=tuple(sorted(os.sched_getaffinity(0))),
        allocator_env=in_force(),
        transparent_huge_pages=_read_text("/sys/kernel/mm/transparent_hugepage/enabled"),
        anon_huge_bytes=_anon_huge_bytes(),
        matmul_precision=torch.get_float32_matmul_precision(),
        tf32=case.device.startswith("cuda") and torch.get_float32_matmul_precision() != "highest",
        flush_denormal=_flushes_denormals(),
        inference_mode=torch.is_inference_mode_enabled(),
        grad_mode=grad_mode,
        gc_disabled=not gc.isenabled(),
    )


@contextmanager
def gc_off() -> Iterator[None]:
    """No garbage collection while timing."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _flushes_denormals() -> bool:
    """torch can set it but not say it: a product whose result is denormal tells."""
    import torch

    return not bool((torch.tensor([1e-30]) * 1e-10).any())


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"


def _anon_huge_bytes() -> int:
    lines = _read_text("/proc/self/smaps_rollup").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("AnonHugePages")), 0)
