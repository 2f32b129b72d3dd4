"""Memory and page sizes from /proc/meminfo and the transparent-huge-page switch."""

from __future__ import annotations

from pathlib import Path

from profiles.probes.cgroup import read_memory_limit
from profiles.probes.files import read_text

MEMINFO = Path("/proc/meminfo")
THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def parse_meminfo(text: str) -> dict[str, int]:
    """Field -> bytes for the fields in kB, field -> count for those without a unit (HugePages_Total)."""
    sizes: dict[str, int] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words:
            sizes[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return sizes


def parse_selected(text: str) -> str:
    """The bracketed word of a kernel choice such as 'always [madvise] never'; 'unknown' where none is."""
    return next((w.strip("[]") for w in text.split() if w.startswith("[")), "unknown")


def read_meminfo(path: Path = MEMINFO) -> dict[str, int]:
    """`parse_meminfo` over this machine; empty where unreadable."""
    return parse_meminfo(read_text(path) or "")


def read_thp(path: Path = THP) -> str:
    """'always', 'madvise', 'never' or 'unknown'."""
    return parse_selected(read_text(path) or "")


def memory_bytes() -> int:
    """Bytes this process can have: the machine's, or the group's limit where that is less."""
    total = read_meminfo().get("MemTotal", 0)
    limit = read_memory_limit()
    return min(total, limit) if limit is not None and total else limit or total


def available_bytes() -> int:
    """Bytes that can be allocated now without swapping, within the group's limit."""
    available = read_meminfo().get("MemAvailable", 0)
    return min(available, memory_bytes()) if available else 0
