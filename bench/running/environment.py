"""The environment a fork server must be started with, by the settings of its cases."""

from __future__ import annotations

import os

from bench.records import Allocator, Case, WaitPolicy
from profiles.allocator import HUGE_PAGE_ENV, LIBRARY_ENV, PINNED_ENV, find_library, missing_library

Environment = dict[str, str | None]
"""Variables to set, or to remove (None)."""

WAIT_POLICY = "OMP_WAIT_POLICY"
SPINNING = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Say the same as the wait policy does, and would overrule it."""


def environment(allocator: Allocator, huge_pages: bool, wait_policy: WaitPolicy = "default") -> Environment:
    """Allocator, tables on huge pages or not, what idle OpenMP threads do; what the user's shell says is overruled.

    Raises ValueError where the allocator's library is not there (`refused` says so before).
    """
    pinned = {name: value if allocator == "pinned" else None for name, value in PINNED_ENV.items()}
    huge = {name: value if huge_pages else None for name, value in HUGE_PAGE_ENV.items()}
    waiting = {WAIT_POLICY: None if wait_policy == "default" else wait_policy, **dict.fromkeys(SPINNING)}
    return {**pinned, **huge, **_tunables(), **_library(allocator), **waiting}


def _tunables() -> Environment:
    """glibc's tunables without those of its allocator, which would overrule the axis."""
    given = os.environ.get("GLIBC_TUNABLES", "").split(":")
    return {"GLIBC_TUNABLES": ":".join(t for t in given if t and not t.startswith("glibc.malloc.")) or None}


def _library(allocator: Allocator) -> Environment:
    """Settings of a preloaded allocator, and LD_PRELOAD with it and without any other."""
    told: Environment = {name: None for env in LIBRARY_ENV.values() for name in env}
    kept = [p for p in os.environ.get("LD_PRELOAD", "").replace(" ", ":").split(":") if p and not _allocates(p)]
    if allocator in LIBRARY_ENV:
        path = find_library(allocator)
        if path is None:
            raise ValueError(missing_library(allocator))
        told |= LIBRARY_ENV[allocator]
        kept = [str(path), *kept]
    return told | {"LD_PRELOAD": ":".join(kept) or None}


def _allocates(path: str) -> bool:
    return any(name in path for name in ("jemalloc", "tcmalloc", "mimalloc"))


def environment_of(case: Case) -> Environment:
    """The environment of a case."""
    return environment(case.allocator, case.huge_pages, case.wait_policy)


def in_force() -> dict[str, str]:
    """The variables as this process was started with."""
    libraries = (name for env in LIBRARY_ENV.values() for name in env)
    names = (*PINNED_ENV, *HUGE_PAGE_ENV, "LD_PRELOAD", "GLIBC_TUNABLES", *libraries, WAIT_POLICY, *SPINNING)
    return {name: os.environ[name] for name in names if name in os.environ}


def refused(case: Case) -> str | None:
    """Why the settings of a case cannot be had on this machine, with the cure, or None."""
    missing = missing_library(case.allocator)
    if missing:
        return f"allocator {case.allocator}: {missing}"
    beyond = sorted(set(cpus_of(case.affinity)) - os.sched_getaffinity(0))
    if beyond:
        here = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        return f"affinity {case.affinity}: CPU {beyond[0]} is not among those this process may use ({here})"
    if case.flush_denormal and case.device != "cpu":
        return "flush_denormal is a mode of the CPU; on a GPU it changes nothing that is timed"
    if case.tf32 and case.matmul_precision != "highest":
        return "tf32 is matmul_precision high; give one of the two"
    return None


def cpus_of(affinity: str) -> tuple[int, ...]:
    """CPU numbers of a list such as '0,2-3'; none of an empty one. Raises ValueError for anything else."""
    found: set[int] = set()
    for part in filter(None, affinity.replace(" ", "").split(",")):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) < int(first):
            raise ValueError(f"{affinity!r} is no list of CPUs such as '0,2-3'")
        found |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))
