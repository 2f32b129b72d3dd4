"""Settings that change the number: put in force before a case, and what can be told of them afterwards.

Those of the environment (allocator, huge pages, wait policy) come with the fork server (bench/running/environment.py).
Reading back is in bench/running/reading_back.py: nothing that is asked here is assumed to have happened.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.records import Case
from bench.running.environment import cpus_of
from profiles.probes.cgroup import usable_cpus

PR_SET_THP_DISABLE = 41


def apply_settings(case: Case) -> int:
    """Put the case's settings in force; returns the number of threads.

    Before the first parallel region: OpenMP's threads inherit the affinity and the denormal mode of the one that
    starts them.
    """
    import torch

    if not case.huge_pages:
        forbid_huge_pages()
    if case.affinity:
        os.sched_setaffinity(0, cpus_of(case.affinity))
    torch.set_flush_denormal(case.flush_denormal)
    threads = case.num_threads or usable_cpus()
    torch.set_num_threads(threads)
    if case.interop_threads:
        torch.set_num_interop_threads(case.interop_threads)
    torch.set_float32_matmul_precision("high" if case.tf32 else case.matmul_precision)
    if case.device.startswith("cuda"):
        # Events, synchronisation and memory statistics are those of the current device.
        torch.cuda.set_device(torch.device(case.device))
    torch.manual_seed(case.seed)
    torch.autograd.set_detect_anomaly(False)
    return threads


def forbid_huge_pages() -> None:
    """No transparent huge page for this process from here on, also where the system gives them to everybody."""
    libc: Any = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


@contextmanager
def gc_off() -> Iterator[None]:
    """No garbage collection while timing."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
