"""The environment that pins glibc's allocator and asks for huge pages. It counts only when set before the start.

glibc's moving mmap and trim thresholds decide per process whether every large temporary goes back to the kernel and
is faulted in again; pinned, freed memory stays. MALLOC_MMAP_MAX_=0 says the same as the threshold does and is there
for glibc before 2.35, which silently refuses a threshold above 32 MiB.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

PINNED_ENV: dict[str, str] = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(32 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_MMAP_MAX_": "0",
}
HUGE_PAGE_ENV: dict[str, str] = {"THP_MEM_ALLOC_ENABLE": "1"}
_PRELOADS = ("jemalloc", "tcmalloc", "mimalloc")
LIBRARY_ENV: dict[str, dict[str, str]] = {
    # Freed pages are kept, as with the pinned glibc: by default jemalloc gives them back after ten seconds.
    "jemalloc": {"MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1"},
    "tcmalloc": {"TCMALLOC_RELEASE_RATE": "0", "TCMALLOC_LARGE_ALLOC_REPORT_THRESHOLD": str(1 << 50)},
}
"""What each preloaded allocator is told, so that it keeps freed memory."""
_FILES = {"jemalloc": ("libjemalloc.so*",), "tcmalloc": ("libtcmalloc.so*", "libtcmalloc_minimal.so*")}
_DEBIAN = {"jemalloc": "libjemalloc2", "tcmalloc": "libtcmalloc-minimal4"}
_FEDORA = {"jemalloc": "jemalloc", "tcmalloc": "gperftools-libs"}
_FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/lib/*-linux-gnu", "/usr/local/lib", "/usr/local/lib64", "/opt/*/lib")


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


def find_library(name: str, folders: Sequence[str] = ()) -> Path | None:
    """The shared library of 'jemalloc' or 'tcmalloc' in the usual folders and the interpreter's own, or None."""
    places = folders or (*_FOLDERS, f"{sys.prefix}/lib")
    patterns = [f"{place.lstrip('/')}/{file}" for file in _FILES[name] for place in places]
    return next((path for pattern in patterns for path in sorted(Path("/").glob(pattern))), None)


def missing_library(name: str, folders: Sequence[str] = ()) -> str | None:
    """Why allocator `name` cannot be had here, with the cure, or None; those of glibc are always there."""
    if name not in _FILES or find_library(name, folders) is not None:
        return None
    return (
        f"no library of {name} in the usual folders; `sudo apt install {_DEBIAN[name]}` "
        f"(Fedora: `dnf install {_FEDORA[name]}`) brings it"
    )


def mapped_library(maps: str) -> str:
    """'glibc', or the allocator in its place, by what the text of /proc/<pid>/maps says is loaded."""
    return next((name for name in _PRELOADS if f"lib{name}" in maps), "glibc")


def heap_takes_large_blocks() -> bool | None:
    """Whether glibc now serves a block of 40 MiB from the heap it keeps (pinned) or by a mapping of its own (default).

    None where the process's malloc is not glibc's. The block is never touched.
    """
    libc: Any = ctypes.CDLL(None)
    if mapped_library(_own_maps()) != "glibc" or not hasattr(libc, "mallinfo2"):
        return None
    libc.mallinfo2.restype = _Mallinfo2
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    before = libc.mallinfo2().hblks
    block = libc.malloc(_ABOVE_EVERY_THRESHOLD_BYTES)
    mapped = libc.mallinfo2().hblks > before
    libc.free(block)
    return not mapped


# The moving threshold of glibc never rises above 32 MiB.
_ABOVE_EVERY_THRESHOLD_BYTES = 40 << 20


class _Mallinfo2(ctypes.Structure):
    """glibc's struct mallinfo2; hblks is the number of blocks that have a mapping of their own."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip


def allocator_in_force() -> str:
    """pinned, default, or the name of the mapped library: what this process's malloc really is."""
    library = mapped_library(_own_maps())
    if library != "glibc":
        return library
    return "pinned" if heap_takes_large_blocks() else "default"


def _own_maps() -> str:
    try:
        return Path("/proc/self/maps").read_text()
    except OSError:
        return ""
