"""Do equal processes take equal time? `python -m tools.process_spread [--processes 10] [--rounds 60] [--json]`

Some processes of the suite's default (pinned allocator, huge pages) and as many of glibc's own are built once and then
parked: stopped while another measures. In each round every one measures the same DLRM step for a tenth of a second, in
a new random order. A process's time is the median over its rounds, each divided by the round's median, since the host's
speed moves from one second to the next, and moves them all; what is left is what differs between the processes. Prints
per setting slowest over fastest process, less one, and the same of the times as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any

import msgspec

from bench.records import Limits
from bench.running.environment import environment

LIMITS = Limits(budget_s=0.1, min_repeats=3, min_repeat_s=0.02)
SETTINGS = ("pinned", "default")
DLRM = {"num_rows": 100_000, "pooling_factor": 20, "batch_size": 512, "backend": "fused_bag"}


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """One setting: processes, their median step time, and slowest over fastest less one, without and with drift."""

    setting: str
    processes: int
    step_s: float
    between_frac: float
    with_drift_frac: float


def worker() -> None:
    """Build one step, then measure it whenever a line comes in, and print its median step time in seconds."""
    from bench.running.clocks import HostClock
    from bench.running.measuring import measure
    from bench.running.settings import apply_settings, gc_off
    from bench.sweep_spec import make_case
    from workloads import steps
    from workloads.batch import make_batch

    case = make_case("paper", None, DLRM)
    apply_settings(case)
    assert case.model is not None
    bundle = steps.build_model(case.model, backend=case.backend)
    inputs = [bundle.prepare(make_batch(case.model, case.batch_size, 0, n)) for n in range(8)]
    step = steps.make_step(bundle)
    with gc_off():
        measure(step, inputs, HostClock(), LIMITS)
        print("built", flush=True)
        for _ in sys.stdin:
            print(median(measure(step, inputs, HostClock(), LIMITS).times_s), flush=True)


class Parked:
    """A process that measures when asked and sleeps meanwhile: it waits for a line, so that no thread of it spins."""

    def __init__(self, process: subprocess.Popen[str], setting: str) -> None:
        self._process, self.setting = process, setting
        self.answer()

    def answer(self) -> str:
        """Its next line. SystemExit with its exit code where it ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.setting}: a process ended with {self._process.wait()}")
        return line.strip()

    def step_s(self) -> float:
        """Measure now."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self.answer())


@contextmanager
def parked(setting: Any) -> Iterator[Parked]:
    """A process under this setting; ended with the block."""
    changed = os.environ | environment(setting, True)
    env = {name: value for name, value in changed.items() if value is not None}
    command = [sys.executable, "-m", "tools.process_spread", "--worker"]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Parked(process, setting)
        finally:
            process.kill()


def rounds(processes: Sequence[Parked], number: int, seed: int) -> list[list[float]]:
    """Step times by round and process."""
    chance, found = random.Random(seed), []
    for n in range(number):
        times = [0.0] * len(processes)
        for place in chance.sample(range(len(processes)), len(processes)):
            times[place] = processes[place].step_s()
        found.append(times)
        print(f"\rround {n + 1} of {number}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def spreads(settings: Sequence[str], found: Sequence[Sequence[float]]) -> list[Spread]:
    """By setting; `settings` names that of each process, `found` holds its times round by round."""
    level = [median(times) for times in found]
    middle = median(level)
    clean = [median(times[p] / now for times, now in zip(found, level, strict=True)) for p in range(len(settings))]
    raw = [median(times[p] for times in found) for p in range(len(settings))]
    told = []
    for setting in dict.fromkeys(settings):
        own = [p for p, name in enumerate(settings) if name == setting]
        told.append(
            Spread(
                setting=setting,
                processes=len(own),
                step_s=middle * median(clean[p] for p in own),
                between_frac=max(clean[p] for p in own) / min(clean[p] for p in own) - 1,
                with_drift_frac=max(raw[p] for p in own) / min(raw[p] for p in own) - 1,
            )
        )
    return told


def main() -> None:
    """One line per setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker()
        return
    with ExitStack() as stack:
        every = [stack.enter_context(parked(setting)) for _ in range(options.processes) for setting in SETTINGS]
        found = spreads([p.setting for p in every], rounds(every, options.rounds, options.seed))
    if options.json:
        print(json.dumps(msgspec.to_builtins(found), indent=1))
        return
    for one in found:
        print(
            f"{one.setting:10} {one.step_s * 1e3:7.3f} ms, {one.processes} processes {one.between_frac:.1%} apart "
            f"({one.with_drift_frac:.1%} with the host's drift)"
        )


if __name__ == "__main__":
    main()
