"""Do three ways of timing agree? `python -m tools.agreement [--alternations 160] [--seed 1] [--cases 0,1] [--json]`

On embedding, MLP and DLRM steps of about 0.5 to 20 ms, forward and train, one worker process times the same step by a
bare loop, by torch.utils.benchmark's Timer.blocked_autorange, and by ours with telemetry off and on, a tenth of a
second each, in a new random order in each alternation, until there are as many alternations beside which nothing else
used more than 3 % of the CPUs (the others are left out whole, whichever side they hit, and counted; at most 5 times as
many are tried). Each alternation gives a ratio to the bare loop beside it, since a host's speed moves by several
percent within seconds and moves both; printed are the medians of these ratios (1.000: no difference) with their 95 %
intervals, and those of telemetry on to off. --cases picks some of CASES by number.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from statistics import median
from typing import Any

import msgspec

from bench.records import Limits
from bench.running.environment import environment
from bench.running.forkserver import Emit
from bench.running.pool import Pool
from bench.running.watching import Watch
from bench.stats import median_interval

SMALL = {"num_rows": 200_000, "pooling_factor": 5}
CASES = (
    ("tbe_default", "fused_bag", "forward", {"num_tables": 8, "num_rows": 200_000, "dim": 64}, 256),
    ("tbe_default", "tbe", "train_step", {"num_tables": 8, "num_rows": 200_000, "dim": 64}, 256),
    ("paper", "fused_bag", "forward", {"num_tables": 2, "num_rows": 1000, "pooling_factor": 1}, 64),
    ("paper", "fused_bag", "train_step", {"num_tables": 2, "num_rows": 1000, "pooling_factor": 1}, 64),
    ("paper", "fused_bag", "forward", SMALL, 128),
    ("paper", "tbe", "train_step", SMALL, 64),
    ("tiny", "bag", "forward", {}, 2048),
)
LIMITS = Limits(budget_s=0.1, min_repeats=5, min_repeat_s=0.01)
DISTURBED_FRAC, MOST_TRIES = 0.03, 5
SIDES = ("bare", "timer", "ours", "ours_watched")


def bare_loop(step: Callable[[Any], object], inputs: Sequence[Any]) -> float:
    """Median over repeats of the mean step time, with nothing but two time stamps around each repeat."""
    feed, times = cycle(inputs), []
    steps = _steps_for(step, feed)
    ends = time.perf_counter() + LIMITS.budget_s
    while time.perf_counter() < ends or len(times) < LIMITS.min_repeats:
        chosen = list(islice(feed, steps))
        began = time.perf_counter()
        for item in chosen:
            step(item)
        times.append((time.perf_counter() - began) / steps)
    return median(times)


def _steps_for(step: Callable[[Any], object], feed: cycle[Any]) -> int:
    began = time.perf_counter()
    for item in islice(feed, 3):
        step(item)
    return max(1, round(LIMITS.min_repeat_s * 3 / (time.perf_counter() - began)))


def torch_timer(step: Callable[[Any], object], inputs: Sequence[Any]) -> float:
    """Median of torch.utils.benchmark's Timer.blocked_autorange over the same time."""
    import torch
    from torch.utils.benchmark import Timer

    feed = cycle(inputs)
    timer = Timer("step(next(feed))", globals={"step": step, "feed": feed}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=LIMITS.budget_s).median)


def job(payload: bytes, emit: Emit) -> None:
    """One case, all sides in each alternation; emits one reading per side."""
    import os

    from bench.running.clocks import HostClock
    from bench.running.measuring import measure
    from bench.running.settings import gc_off
    from bench.sweep_spec import make_case
    from profiles.probes.load import LoadWatch
    from workloads import steps
    from workloads.batch import make_batch

    preset, backend, phase, settings, batch_size, alternations, seed = msgspec.json.decode(payload)
    case = make_case(preset, None, settings | {"backend": backend, "phase": phase, "batch_size": batch_size})
    bundle = steps.build_model(case.model, backend=backend, phase=phase)
    inputs = [bundle.prepare(make_batch(case.model, batch_size, 0, n)) for n in range(16)]
    step = steps.make_step(bundle)

    def ours() -> float:
        return median(measure(step, inputs, HostClock(), LIMITS).times_s)

    def watched() -> float:
        emit("measuring", {"pid": os.getpid()})
        found = ours()
        emit("measured", {})
        return found

    ways = dict(
        zip(
            SIDES,
            (lambda: bare_loop(step, inputs), lambda: torch_timer(step, inputs), ours, watched),
            strict=True,
        )
    )
    chance = random.Random(seed)
    with gc_off():
        ours()
        kept = 0
        for _ in range(MOST_TRIES * alternations):
            load = LoadWatch()
            found = {side: ways[side]() for side in chance.sample(SIDES, len(SIDES))}
            disturbed = load.other_frac() > DISTURBED_FRAC
            emit("disturbed" if disturbed else "alternation", found)
            kept += not disturbed
            if kept == alternations:
                break


class Readings(msgspec.Struct, frozen=True, kw_only=True):
    """Step times of each side, one per undisturbed alternation, in seconds; how many alternations were disturbed."""

    times_s: dict[str, list[float]]
    disturbed: int


def measured(pool: Pool, case: Sequence[Any], alternations: int, seed: int) -> Readings:
    """All sides of one case. SystemExit with the worker's words where it fails, or where nothing was undisturbed."""
    readings: dict[str, list[float]] = {side: [] for side in SIDES}
    disturbed: list[Any] = []
    watch: list[Watch] = []

    def on_event(kind: str, body: dict[str, Any]) -> None:
        if kind == "alternation":
            for side, step_s in body.items():
                readings[side].append(step_s)
            return
        if kind == "disturbed":
            disturbed.append(body)
            return
        if kind == "measuring":
            watch.append(Watch("cpu", lambda _: None))
        watch[-1](kind, body)

    server = pool.server(environment("pinned", True))
    ending = server.run("tools.agreement:job", [*case, alternations, seed], on_event, 3600)
    if ending.kind != "ok":
        raise SystemExit(ending.log)
    if not readings["bare"]:
        raise SystemExit(f"{' '.join(case[:3])}: every alternation was disturbed; repeat on a quiet machine")
    return Readings(times_s=readings, disturbed=len(disturbed))


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """Median over alternations of the ratio of two sides, with its 95 % interval."""

    ratio: float
    low: float
    high: float


class Agreed(msgspec.Struct, frozen=True, kw_only=True):
    """One case: median step time of the bare loop, and the ratios of the others to what stood beside them."""

    case: str
    bare_s: float
    timer_over_bare: Paired
    ours_over_bare: Paired
    telemetry_on_over_off: Paired
    alternations: int
    disturbed: int


def paired(over: Sequence[float], under: Sequence[float]) -> Paired:
    """`over` and `under`: step times of the same alternations, in the same order."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    low, high = median_interval(ratios)
    return Paired(ratio=median(ratios), low=low, high=high)


def agreed(case: Sequence[Any], readings: Readings) -> Agreed:
    """The ratios of one case's sides."""
    times = readings.times_s
    return Agreed(
        case=" ".join(case[:3]),
        bare_s=median(times["bare"]),
        timer_over_bare=paired(times["timer"], times["bare"]),
        ours_over_bare=paired(times["ours"], times["bare"]),
        telemetry_on_over_off=paired(times["ours_watched"], times["ours"]),
        alternations=len(times["bare"]),
        disturbed=readings.disturbed,
    )


def line(one: Agreed) -> str:
    """What is printed of one case."""
    told = (
        f"{words} {found.ratio:.3f} [{found.low:.3f}, {found.high:.3f}]"
        for words, found in (
            ("timer/bare", one.timer_over_bare),
            ("ours/bare", one.ours_over_bare),
            ("telemetry on/off", one.telemetry_on_over_off),
        )
    )
    return (
        f"{one.case:36} bare {one.bare_s * 1e3:7.3f} ms  {'  '.join(told)}  "
        f"({one.alternations} alternations, {one.disturbed} disturbed)"
    )


def main() -> None:
    """Print one line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alternations", type=int, default=160)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", default=",".join(map(str, range(len(CASES)))))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    told = []
    with Pool() as pool:
        for case in (CASES[int(number)] for number in options.cases.split(",")):
            told.append(agreed(case, measured(pool, case, options.alternations, options.seed)))
            print(line(told[-1]), file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(told)).decode())


if __name__ == "__main__":
    main()
