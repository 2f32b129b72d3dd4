"""CPU quota, throttling and memory limit of the control group this process is in, version 1 and version 2."""

from __future__ import annotations

from pathlib import Path

from profiles.probes import cpu
from profiles.probes.files import read_text

CGROUP_ROOT = Path("/sys/fs/cgroup")
SELF_CGROUP = Path("/proc/self/cgroup")
# Version 1 writes "no limit" as the largest page-aligned signed 64-bit number; anything near it is no limit.
_UNLIMITED_BYTES = 1 << 60


def parse_quota_v2(text: str) -> float | None:
    """CPUs granted by the text of cpu.max ('150000 100000' is 1.5), None for 'max'."""
    quota, _, period = text.strip().partition(" ")
    return None if quota == "max" or not quota else int(quota) / int(period or 100_000)


def parse_quota_v1(quota: str, period: str) -> float | None:
    """CPUs granted by cpu.cfs_quota_us over cpu.cfs_period_us, None for -1."""
    micros = int(quota)
    return None if micros < 0 else micros / int(period)


def parse_limit(text: str) -> int | None:
    """Bytes of memory.max or memory.limit_in_bytes, None where there is no limit."""
    text = text.strip()
    if text == "max" or not text:
        return None
    limit = int(text)
    return None if limit >= _UNLIMITED_BYTES else limit


def parse_throttled_s(text: str) -> float | None:
    """Seconds this group waited for its quota, from cpu.stat (v2 throttled_usec, v1 throttled_time in ns)."""
    fields = dict(line.split()[:2] for line in text.splitlines() if len(line.split()) >= 2)
    if "throttled_usec" in fields:
        return int(fields["throttled_usec"]) * 1e-6
    return int(fields["throttled_time"]) * 1e-9 if "throttled_time" in fields else None


def parse_membership(text: str) -> dict[str, str]:
    """Controller -> path of this process's group, from /proc/self/cgroup; version 2 is under the key ''."""
    groups: dict[str, str] = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        groups.update(dict.fromkeys(controllers.split(","), path))
    return groups


def _folders(controller: str, root: Path, membership: Path) -> list[Path]:
    """Folders that may hold this process's group of `controller`, from the group up to the root of its tree.

    Inside a container the path in /proc/self/cgroup is the host's and the tree starts at the mount, so every
    ancestor that exists is looked at: a limit may sit on any of them.
    """
    groups = parse_membership(read_text(membership) or "")
    top = root / controller if controller else root
    path = groups.get(controller, "/").strip("/")
    inner = [top / p for p in (Path(path), *Path(path).parents) if p != Path()] if path else []
    return [f for f in (*inner, top) if f.is_dir()]


def read_quota_cpus(root: Path = CGROUP_ROOT, membership: Path = SELF_CGROUP) -> float | None:
    """The tightest CPU quota over the group and its ancestors, None where there is none."""
    found = [parse_quota_v2(t) for f in _folders("", root, membership) if (t := read_text(f / "cpu.max"))]
    for folder in _folders("cpu", root, membership):
        quota, period = read_text(folder / "cpu.cfs_quota_us"), read_text(folder / "cpu.cfs_period_us")
        if quota and period:
            found.append(parse_quota_v1(quota, period))
    return min((q for q in found if q is not None), default=None)


def threads_within(visible: int, quota_cpus: float | None) -> int:
    """How many of `visible` CPUs can run at once within a quota: whole ones, at least 1."""
    return max(1, visible if quota_cpus is None else min(visible, int(quota_cpus)))


def usable_cpus(root: Path = CGROUP_ROOT, membership: Path = SELF_CGROUP) -> int:
    """How many threads of this process can run at once: its CPUs, within its quota."""
    return threads_within(len(cpu.visible_cpus()), read_quota_cpus(root, membership))


def read_memory_limit(root: Path = CGROUP_ROOT, membership: Path = SELF_CGROUP) -> int | None:
    """The tightest memory limit in bytes over the group and its ancestors, None where there is none."""
    found = [parse_limit(t) for f in _folders("", root, membership) if (t := read_text(f / "memory.max"))]
    for folder in _folders("memory", root, membership):
        text = read_text(folder / "memory.limit_in_bytes")
        if text:
            found.append(parse_limit(text))
    return min((b for b in found if b is not None), default=None)


def read_throttled_s(root: Path = CGROUP_ROOT, membership: Path = SELF_CGROUP) -> float | None:
    """Seconds of quota throttling so far, None where nobody says: of the group and its ancestors together.

    A quota may sit on any of them and stops all that is below it; each counts its own, so that what is read later
    less what was read before is what any of them took.
    """
    folders = (*_folders("", root, membership), *_folders("cpu", root, membership))
    found = [parse_throttled_s(text) for folder in folders if (text := read_text(folder / "cpu.stat"))]
    told = [seconds for seconds in found if seconds is not None]
    return sum(told) if told else None
