"""Sweeps of cases that eat memory until the kernel kills them: each is recorded, and the sweep ends."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path

from bench.errors import Exit
from tools.torture.sweeps import Sweep, leftovers, readable, run_dir_in, write_sweep
from tools.torture.trial import Trial

EATERS = 6
LIMIT_BYTES = 1500 * 2**20
GROUPS = (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max"))
STEPS = """
def eats():
    kept = []
    def step():
        while True:
            kept.append(b"x" * (64 * 2**20))
    return step


def quick():
    return lambda: sum(range(1000))
"""


def memory_group(limit_bytes: int = LIMIT_BYTES) -> Path | None:
    """A memory cgroup (v1 or v2) of our own, or None where none can be made."""
    for root, limit in GROUPS:
        group = Path(root) / f"dlrm-bench-torture-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(limit_bytes))
        except OSError:
            group.rmdir()
            continue
        return group
    return None


def out_of_memory(number: int, seed: int) -> Trial:
    """One sweep of EATERS cases that eat memory and one that does not, in a memory cgroup."""
    group = memory_group()
    if group is None:
        return Trial("out of memory", number, 0, skipped="no memory cgroup can be made here")
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        try:
            return _in(group, number, seed, Path(folder))
        finally:
            _remove(group)


def _in(group: Path, number: int, seed: int, home: Path) -> Trial:
    (home / "eats.py").write_text(STEPS)
    seeds = [seed * 1000 + number * EATERS + n for n in range(EATERS)]
    grids = f'[[grid]]\ncode = "eats.py:eats"\n[grid.axes]\nseed = {seeds}\n[[grid]]\ncode = "eats.py:quick"\n'
    file = write_sweep(home, grids)
    join = ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"))
    sweep = Sweep(home, [str(file), "--out", str(home)], prefix=join)
    code, run = sweep.ended(), run_dir_in(home)
    wrong = [] if code == Exit.CASE_FAILED else [f"exit {code}: {sweep.said()[-300:]}"]
    if run is None:
        return Trial("out of memory", number, 0, wrong=(*wrong, "no run folder"))
    records, unreadable = readable(run)
    killed = [r for r in records if (r.outcome.kind, r.outcome.signal) == ("out_of_memory", "SIGKILL")]
    others = [r.outcome.status for r in records if r not in killed]
    wrong += [] if others == ["ok"] else [f"{r.key}: {r.outcome.kind}, {r.outcome.reason}" for r in records]
    wrong += [f"process {pid} was left behind" for pid in leftovers(home)]
    keys = {r.key for r in records}
    lost, doubled = EATERS + 1 - len(keys), len(records) - len(keys)
    return Trial("out of memory", number, len(killed), lost, doubled, (*wrong, *unreadable))


def _remove(group: Path) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.05)
