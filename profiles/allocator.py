"""The environment that pins glibc's allocator and asks for huge pages. It counts only when set before the start.

glibc's moving mmap and trim thresholds decide per process whether every large temporary goes back to the kernel and
is faulted in again; pinned, freed memory stays. MALLOC_MMAP_MAX_=0 says the same as the threshold does and is there
for glibc before 2.35, which silently refuses a threshold above 32 MiB.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

PINNED_ENV: dict[str, str] = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(32 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_MMAP_MAX_": "0",
}
HUGE_PAGE_ENV: dict[str, str] = {"THP_MEM_ALLOC_ENABLE": "1"}
_PRELOADS = ("jemalloc", "tcmalloc", "mimalloc")


class AllocatorState(msgspec.Struct, frozen=True, kw_only=True):
    """What this process was started with. `library` is 'glibc' or a preloaded replacement."""

    library: str
    pinned: bool
    huge_pages: bool


def pinned_environment(base: Mapping[str, str] | None = None, *, huge_pages: bool = True) -> dict[str, str]:
    """A copy of `base` (default: os.environ) with which to start a process whose allocator is pinned."""
    extra = PINNED_ENV | (HUGE_PAGE_ENV if huge_pages else {})
    return {**(os.environ if base is None else base), **extra}


def allocator_state(environ: Mapping[str, str] | None = None) -> AllocatorState:
    """Read the settings back from `environ` (default: os.environ)."""
    env = os.environ if environ is None else environ
    return AllocatorState(
        library=allocator_library(env),
        pinned=all(env.get(name) == value for name, value in PINNED_ENV.items()),
        huge_pages=all(env.get(name) == value for name, value in HUGE_PAGE_ENV.items()),
    )


def allocator_library(environ: Mapping[str, str]) -> str:
    """'glibc', or the name of the allocator that LD_PRELOAD puts in its place."""
    preload = Path(environ.get("LD_PRELOAD", "")).name
    return next((name for name in _PRELOADS if name in preload), "glibc")
