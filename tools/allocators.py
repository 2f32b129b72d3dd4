"""What do allocator and page size do? `python -m tools.allocators [allocators|pages] [--processes 10] [--json]`

Each setting in processes of its own (fresh interpreters, which share no memory layout), the settings taking turns in a
random order. A process beside which something else used more than 3 % of the CPUs while it measured is run once more,
whatever its setting (at most 3 times; then the quietest stays and is counted).

allocators: one DLRM forward step (8 x 300,000 x 64, batch 512) with tables on huge pages, faults and kernel time per
step. pages: bytes gathered per second from one table of 2 GB (dim 64) on 4 KiB pages, on huge pages by torch's own
switch, and by glibc's. Prints medians over the processes, how far they lie apart, and each setting's time over that of
the suite's default (pinned, huge pages).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from statistics import median
from typing import Any

import msgspec

from bench.records import Case, Limits
from bench.running.environment import environment
from profiles.allocator import missing_library

LIMITS = Limits(budget_s=1.0)
TIMEOUT_S = 120
DISTURBED_FRAC, TRIES = 0.03, 3
DEFAULT = "pinned"
ALLOCATORS = ("pinned", "default", "jemalloc", "tcmalloc")
HUGE_TUNABLE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
PAGES: dict[str, tuple[bool, dict[str, str]]] = {
    "pinned": (True, {}),
    "4 KiB": (False, {}),
    "glibc.malloc.hugetlb=1": (False, HUGE_TUNABLE),
}
"""Whether torch's switch is on, and what else is in the environment."""
DLRM = {"num_rows": 300_000, "pooling_factor": 20, "batch_size": 512, "backend": "fused_bag"}
GATHER = {"num_tables": 1, "num_rows": 8_000_000, "dim": 64, "pooling_factor": 50, "batch_size": 2048, "backend": "bag"}


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One process. bytes_per_s: rows looked up, in bytes, over the step."""

    step_s: float
    faults_per_step: float
    kernel_frac: float
    bytes_per_s: float
    huge_bytes: int
    allocator: str
    other_frac: float = 0.0


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One setting over its processes. between_frac: slowest over fastest, less one. over_default: step times' ratio."""

    setting: str
    processes: int
    step_s: float
    between_frac: float
    over_default: float
    faults_per_step: float
    most_faults_per_step: float
    kernel_frac: float
    bytes_per_s: float
    huge_bytes: int
    allocator: str
    disturbed: int = 0
    skipped: str | None = None


def worker(what: str, huge_pages: bool) -> Reading:
    """Measure in this process, whose environment is as it is."""
    from bench.running.clocks import HostClock
    from bench.running.measuring import measure
    from bench.running.reading_back import read_settings
    from bench.running.settings import apply_settings, gc_off
    from bench.sweep_spec import make_case
    from profiles.probes.load import LoadWatch
    from workloads import batch as batches
    from workloads import steps

    preset, fields = ("paper", DLRM) if what == "allocators" else ("tbe_default", GATHER)
    case = msgspec.structs.replace(make_case(preset, None, fields), huge_pages=huge_pages)
    if os.environ.get("GLIBC_TUNABLES") is None:
        apply_settings(case)
    else:
        # 4 KiB pages by torch's switch, huge ones by glibc's: the process must not forbid them.
        apply_settings(msgspec.structs.replace(case, huge_pages=True))
    assert case.model is not None
    bundle = steps.build_model(case.model, backend=case.backend)
    made = [batches.make_batch(case.model, case.batch_size, 0, n) for n in range(8)]
    inputs, step = [bundle.prepare(b) for b in made], steps.make_step(bundle)
    looked_up = sum(
        t.lookups * s.row_bytes for t, s in zip(batches.touch(case.model, made), case.model.tables, strict=True)
    )
    with gc_off():
        measure(step, inputs, HostClock(), msgspec.structs.replace(LIMITS, budget_s=0.1))
        watch = LoadWatch()
        found = measure(step, inputs, HostClock(), LIMITS)
        other_frac = watch.other_frac()
    done, step_s = found.steps_per_repeat * len(found.times_s), median(found.times_s)
    settings = read_settings(Case(), False)
    return Reading(
        step_s=step_s,
        faults_per_step=found.minor_faults / done,
        kernel_frac=found.system_s / max(found.user_s + found.system_s, 1e-9),
        bytes_per_s=looked_up / step_s,
        huge_bytes=settings.anon_huge_bytes,
        allocator=settings.allocator,
        other_frac=other_frac,
    )


def read(what: str, setting: str) -> Reading:
    """One fresh process under one setting."""
    huge, extra = (True, {}) if what == "allocators" else PAGES[setting]
    allocator: Any = setting if what == "allocators" else DEFAULT
    changed = os.environ | environment(allocator, huge) | extra
    env = {name: value for name, value in changed.items() if value is not None}
    command = [sys.executable, "-m", "tools.allocators", what, "--worker", "huge" if huge else "small"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{setting}: {done.stderr[-2000:]}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Reading)


def undisturbed(what: str, setting: str) -> Reading:
    """A reading beside which nothing else ran, or the quietest of TRIES."""
    tries: list[Reading] = []
    while len(tries) < TRIES and not (tries and tries[-1].other_frac <= DISTURBED_FRAC):
        tries.append(read(what, setting))
    return min(tries, key=lambda r: r.other_frac)


def measured(what: str, processes: int, seed: int) -> list[Summary]:
    """Every setting that is there, in turn."""
    names = ALLOCATORS if what == "allocators" else tuple(PAGES)
    absent = {name: reason for name in names if (reason := missing_library(name) if what == "allocators" else None)}
    chance, readings = random.Random(seed), {name: [] for name in names if name not in absent}  # type: ignore[var-annotated]
    for number in range(processes):
        for name in chance.sample(list(readings), len(readings)):
            readings[name].append(undisturbed(what, name))
            print(f"\r{number + 1} of {processes}, {name:30}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    base = median(r.step_s for r in readings[DEFAULT])
    return [summary(name, found, base) for name, found in readings.items()] + [
        skipped(name, reason) for name, reason in absent.items()
    ]


def summary(setting: str, found: list[Reading], base_s: float) -> Summary:
    """Of the processes of one setting; `base_s` is the default's median step time."""
    times = [r.step_s for r in found]
    return Summary(
        setting=setting,
        processes=len(found),
        step_s=median(times),
        between_frac=max(times) / min(times) - 1,
        over_default=median(times) / base_s,
        faults_per_step=median(r.faults_per_step for r in found),
        most_faults_per_step=max(r.faults_per_step for r in found),
        kernel_frac=median(r.kernel_frac for r in found),
        bytes_per_s=median(r.bytes_per_s for r in found),
        huge_bytes=round(median(r.huge_bytes for r in found)),
        allocator=found[0].allocator,
        disturbed=sum(r.other_frac > DISTURBED_FRAC for r in found),
    )


def skipped(setting: str, reason: str) -> Summary:
    """A setting that cannot be had here."""
    nothing = dict.fromkeys(
        ("step_s", "between_frac", "over_default", "faults_per_step", "kernel_frac", "bytes_per_s"), 0.0
    )
    return Summary(
        setting=setting, processes=0, most_faults_per_step=0.0, huge_bytes=0, allocator="", skipped=reason, **nothing
    )


def line(one: Summary) -> str:
    """One setting in words."""
    if one.skipped:
        return f"{one.setting:24} skipped: {one.skipped}"
    return (
        f"{one.setting:24} {one.step_s * 1e3:8.3f} ms  x default {one.over_default:.3f}  between processes "
        f"{one.between_frac:6.1%}  faults/step {one.faults_per_step:8.1f} (most {one.most_faults_per_step:.0f})  "
        f"kernel {one.kernel_frac:5.1%}  looked up {one.bytes_per_s / 1e9:5.2f} GB/s  "
        f"huge {one.huge_bytes / 2**20:.0f} MiB  disturbed {one.disturbed} of {one.processes}"
    )


def main() -> None:
    """A line per setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("allocators", "pages"), default="allocators")
    parser.add_argument("--processes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", choices=("huge", "small"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(msgspec.json.encode(worker(options.what, options.worker == "huge")).decode())
        return
    found = measured(options.what, options.processes, options.seed)
    if options.json:
        print(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    for one in found:
        print(line(one))


if __name__ == "__main__":
    main()
