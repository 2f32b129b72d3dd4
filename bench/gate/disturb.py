"""A hostile machine on purpose, for the self-test: a neighbour with a duty cycle, a CPU quota on ourselves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from profiles.probes.cgroup import parse_membership

DUTY_FRAC = 0.30
PERIOD_S = 0.1
QUOTA_CPUS_FRAC = 0.75
QUOTA_PERIOD_S = 20.0
LOAD = """
import os, sys, time
cpu, duty, period = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
parent = os.getppid()
os.sched_setaffinity(0, {cpu})
while os.getppid() == parent:
    end = time.perf_counter() + duty * period
    while time.perf_counter() < end:
        pass
    time.sleep((1 - duty) * period)
"""


@contextmanager
def neighbour() -> Iterator[str]:
    """A process that keeps one of our CPUs busy 30 % of the time; yields what it is."""
    cpu = min(os.sched_getaffinity(0))
    process = subprocess.Popen([sys.executable, "-c", LOAD, str(cpu), str(DUTY_FRAC), str(PERIOD_S)])
    try:
        yield f"a neighbour busy {100 * DUTY_FRAC:.0f} % of the time on CPU {cpu}"
    finally:
        process.kill()
        process.wait()


@contextmanager
def quota() -> Iterator[str | None]:
    """This process and its children in a group whose CPU quota of 3/4 of its CPUs comes and goes every 20 s.

    Yields what it is, None where no group can be made.
    """
    cpus = QUOTA_CPUS_FRAC * len(os.sched_getaffinity(0))
    group = _make_group(cpus)
    if group is None:
        yield None
        return
    home, stop = _home(group), threading.Event()
    changing = threading.Thread(target=_change_quota, args=(group, stop), daemon=True)
    changing.start()
    try:
        (group / "cgroup.procs").write_text(str(os.getpid()))
        yield f"a quota of {cpus:g} CPUs that comes and goes every {QUOTA_PERIOD_S:g} s"
    finally:
        stop.set()
        changing.join()
        (home / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


def _change_quota(group: Path, stop: threading.Event) -> None:
    """Lift the quota and put it on again in turn, until told to stop."""
    file, lifted = (
        (group / "cpu.cfs_quota_us", "-1") if group.parent.name == "cpu" else (group / "cpu.max", "max 100000")
    )
    quota_on = file.read_text().strip()
    on = True
    while not stop.wait(QUOTA_PERIOD_S):
        on = not on
        file.write_text(quota_on if on else lifted)


def _home(group: Path) -> Path:
    """The group that we are in now and go back to; inside a container its path may be the host's: then the root."""
    groups = parse_membership(Path("/proc/self/cgroup").read_text())
    path = groups.get("cpu" if group.parent.name == "cpu" else "", "/")
    home = group.parent / path.strip("/")
    return home if home.is_dir() else group.parent


def _make_group(cpus: float, root: Path = Path("/sys/fs/cgroup")) -> Path | None:
    """A control group with the quota, version 1 or 2."""
    micros = round(cpus * 100_000)
    for folder, file, text in ((root / "cpu", "cpu.cfs_quota_us", str(micros)), (root, "cpu.max", f"{micros} 100000")):
        group = folder / f"dlrm-bench-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / file).write_text(text)
        except OSError:
            group.rmdir()
            continue
        return group
    return None
