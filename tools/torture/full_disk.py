"""Sweeps on a tmpfs that fills up: a clear error, records so far intact, resume works after room is made."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from pathlib import Path

from bench.errors import Exit
from tools.torture.sweeps import CASES, NUM_CASES, Sweep, leftovers, readable, run_dir_in, whole_lines, write_sweep
from tools.torture.trial import Trial

SMALLEST_KIB, LARGEST_KIB = 24, 400
ROOM = "64m"


def unmountable() -> str | None:
    """Why no tmpfs can be mounted here, or None."""
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, text=True, check=False
        )
        if done.returncode:
            return f"no tmpfs can be mounted here ({done.stderr.strip()})"
        subprocess.run(["umount", folder], check=True)
    return None


def full_disk(number: int, seed: int) -> Trial:
    """One sweep into a tmpfs of a random size, then room, then its resume."""
    chance = random.Random(f"disk {seed} {number}")
    kib, trace = chance.randint(SMALLEST_KIB // 4, LARGEST_KIB // 4) * 4, chance.random() < 0.5
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        home, disk = Path(folder), Path(folder) / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", disk], check=True)
        try:
            return _on(number, home, disk, f"{kib} KiB, {'with' if trace else 'without'} traces", trace=trace)
        finally:
            subprocess.run(["umount", disk], check=True)


def _on(number: int, home: Path, disk: Path, note: str, *, trace: bool) -> Trial:
    file = write_sweep(home, CASES, trace=trace)
    first = Sweep(home, [str(file), "--out", str(disk)])
    code, wrong = first.ended(), []
    run, before = run_dir_in(disk), whole_lines(run_dir_in(disk))
    if code != Exit.USAGE or "No space left" not in first.said() or "make room" not in first.said():
        wrong.append(f"exit {code} on a full disk: {first.said()[-300:]}")
    if "Traceback" in first.said():
        wrong.append(f"a traceback: {first.said()[-300:]}")
    if run and readable(run)[1]:
        wrong.append(f"unreadable on the full disk: {readable(run)[1]}")
    os.sync()
    subprocess.run(["mount", "-o", f"remount,size={ROOM}", disk], check=True)
    again = Sweep(home, ["--resume", str(run)] if run else [str(file), "--out", str(disk)])
    if (code := again.ended()) != Exit.OK:
        wrong.append(f"exit {code} of the resume: {again.said()[-300:]}")
    note = f"{note}: {len(before)} records when it was full"
    return _judged(number, run_dir_in(disk), before, wrong, note, home)


def _judged(number: int, run: Path | None, before: list[bytes], wrong: list[str], note: str, home: Path) -> Trial:
    if run is None:
        return Trial("full disk", number, 1, wrong=(*wrong, "no run folder"), note=(note,))
    records, unreadable = readable(run)
    keys = [r.key for r in records]
    bad = [f"{r.key}: {r.outcome.reason}" for r in records if r.outcome.status != "ok"]
    bad += [] if len(set(keys)) == NUM_CASES else [f"{len(set(keys))} of {NUM_CASES} cases"]
    bad += [] if (run / "report.html").exists() else ["no report"]
    bad += [f"process {pid} was left behind" for pid in leftovers(home)]
    lost = len(set(before) - set(whole_lines(run)))
    every = (*wrong, *unreadable, *bad)
    return Trial("full disk", number, 1, lost, len(keys) - len(set(keys)), every, (note,))
