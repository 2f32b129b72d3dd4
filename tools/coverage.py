"""How often does the 95 % interval hold? `python -m tools.coverage [--simulated N] [--real N] [--seed 1] [--json]`

Simulated: N short measurements of each law of noise, by the harness's own warm-up, stop rule and interval on a fake
clock; the long-run median is that of 100,000 repeats of the law. Real: one case, measured N times in one process by the
same code; the long-run median is that of all their repeats. A speed that drifts from one measurement to the next cannot
be told from one of them: a sweep measures some cases twice for that, and the second line has intervals widened as a
sweep's are. Prints the share of intervals that hold it, the mean half width and the mean number of repeats.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from statistics import fmean, median
from typing import Any

import msgspec

from bench.between import Between, between, widened_median
from bench.records import Limits, Measurement
from bench.running.clocks import Repeat, Step
from bench.running.environment import environment
from bench.running.forkserver import Emit
from bench.running.measuring import measure
from bench.running.pool import Pool
from bench.stats import median_interval

STEP_S = 0.05
LONG_RUN_REPEATS = 100_000
LIMITS = Limits(budget_s=2.0)
REAL_LIMITS = Limits(budget_s=0.5, min_repeat_s=0.01)
Law = Callable[[random.Random], Iterator[float]]


PAIRS, DRAWS = 6, 100
"""Cases that a sweep measures twice, and how often such pairs are drawn from what was measured."""


class Covered(msgspec.Struct, frozen=True, kw_only=True):
    """Share of `measurements` whose interval holds the long-run median, their mean half width and repeats."""

    what: str
    measurements: int
    covered_frac: float
    half_width_frac: float
    repeats: float
    steady_frac: float


def iid(chance: random.Random) -> Iterator[float]:
    """Independent repeats, 3 % apart."""
    while True:
        yield math.exp(chance.gauss(0, 0.03))


def autocorrelated(chance: random.Random, keep: float = 0.7) -> Iterator[float]:
    """A drift of 3 % that each repeat inherits from the one before, and 1 % of its own."""
    drift = chance.gauss(0, 0.03)
    while True:
        yield math.exp(drift + chance.gauss(0, 0.01))
        drift = keep * drift + chance.gauss(0, 0.03 * math.sqrt(1 - keep * keep))


def slowly(chance: random.Random) -> Iterator[float]:
    """The same with 0.9: a drift that lasts as long as half of a measurement."""
    return autocorrelated(chance, 0.9)


def bursty(chance: random.Random) -> Iterator[float]:
    """One repeat in seven is in a burst that takes 30 % longer and lasts three repeats."""
    return _switching(chance, start=0.05, stay=0.7, slower=1.3)


def neighbour(chance: random.Random) -> Iterator[float]:
    """One repeat in twelve is in a burst that takes 70 % longer and lasts four repeats: another took the core."""
    return _switching(chance, start=0.0227, stay=0.75, slower=1.7)


def bimodal(chance: random.Random) -> Iterator[float]:
    """Two modes 10 % apart that last six and three repeats."""
    return _switching(chance, start=0.175, stay=0.675, slower=1.1)


def _switching(chance: random.Random, *, start: float, stay: float, slower: float) -> Iterator[float]:
    slow = chance.random() < start / (start + 1 - stay)
    while True:
        yield math.exp(chance.gauss(0, 0.01)) * (slower if slow else 1.0)
        slow = chance.random() < (stay if slow else start)


LAWS: dict[str, Law] = {
    "iid": iid,
    "autocorrelated": autocorrelated,
    "autocorrelated, slowly": slowly,
    "bursty": bursty,
    "neighbour": neighbour,
    "bimodal": bimodal,
}


class NoiseClock:
    """A clock whose steps last what a law says; no time passes."""

    name = "fake"

    def __init__(self, factors: Iterator[float]) -> None:
        self._factors, self._now_s = factors, 0.0

    def repeat(self, step: Step, inputs: Sequence[Any]) -> Repeat:
        """One factor per repeat, as drift and bursts have it."""
        started, wall_s = self._now_s, STEP_S * len(inputs) * next(self._factors)
        self._now_s += wall_s
        return Repeat(started, wall_s, ())


def simulated(name: str, measurements: int, seed: int) -> list[Covered]:
    """Coverage under one law: of intervals as they are, and widened as a sweep widens them."""
    law = LAWS[name]
    truth = STEP_S * median(islice(law(random.Random(f"{seed} {name}")), LONG_RUN_REPEATS))
    found = [
        measure(lambda _: None, [0], NoiseClock(law(random.Random(f"{seed} {name} {n}"))), LIMITS)
        for n in range(measurements)
    ]
    return [
        covered(f"fake clock, {name}", found, truth),
        covered(f"the same, allowing for {PAIRS} pairs", found, truth, pairs_of(found, seed)),
    ]


def covered(
    what: str, found: Sequence[Measurement], truth: float, apart: Sequence[Between | None] = (None,)
) -> Covered:
    """How often the intervals of `found` hold `truth`, on average over what each of `apart` widens them by."""
    middles = [median(m.times_s) for m in found]
    ends = [median_interval(m.times_s) for m in found]
    wide = [
        (middle, *widened_median(middle, own, one)) for one in apart for middle, own in zip(middles, ends, strict=True)
    ]
    return Covered(
        what=what,
        measurements=len(found),
        covered_frac=fmean(low <= truth <= high for _, low, high in wide),
        half_width_frac=fmean((high - low) / 2 / middle for middle, low, high in wide),
        repeats=fmean(len(m.times_s) for m in found),
        steady_frac=fmean("not_steady" not in m.flags for m in found),
    )


def pairs_of(found: Sequence[Measurement], seed: int) -> list[Between | None]:
    """What sweeps that measured PAIRS of cases twice, at random moments of these, would take processes to differ by."""
    middles, drawn = [median(m.times_s) for m in found], []
    for number in range(DRAWS):
        picked = random.Random(f"{seed} {number}").sample(middles, 2 * PAIRS)
        drawn.append(between([math.log(a / b) for a, b in zip(picked[::2], picked[1::2], strict=True)]))
    return drawn


def job(payload: bytes, emit: Emit) -> None:
    """Entry of a worker: one case, measured again and again."""
    from bench.running.clocks import HostClock
    from bench.running.settings import apply_settings, gc_off
    from bench.sweep_spec import make_case
    from workloads import steps
    from workloads.batch import make_batch

    measurements = msgspec.json.decode(payload)
    case = make_case("tbe_default", None, {"num_tables": 4, "num_rows": 200_000, "batch_size": 128, "backend": "tbe"})
    apply_settings(case)
    bundle = steps.build_model(case.model, backend=case.backend)
    inputs = [bundle.prepare(make_batch(case.model, case.batch_size, 0, n)) for n in range(16)]
    step = steps.make_step(bundle)
    with gc_off():
        for _ in range(measurements):
            emit("measured", msgspec.to_builtins(measure(step, inputs, HostClock(), REAL_LIMITS)))


def real(measurements: int, seed: int) -> list[Covered]:
    """Coverage on this machine, by one process: of its intervals as they are, and widened as a sweep widens them."""
    found: list[Measurement] = []

    def on_event(_: str, body: dict[str, Any]) -> None:
        found.append(msgspec.convert(body, Measurement))
        print(f"\r{len(found)} of {measurements}", end="", file=sys.stderr, flush=True)

    with Pool() as pool:
        ending = pool.server(environment("pinned", True)).run("tools.coverage:job", measurements, on_event, 1200)
    if ending.kind != "ok":
        raise SystemExit(ending.log)
    print(file=sys.stderr)
    truth = median(t for m in found for t in m.times_s)
    return [
        covered("one case, one process", found, truth),
        covered(f"the same, allowing for {PAIRS} pairs", found, truth, pairs_of(found, seed)),
    ]


def main() -> None:
    """One line per law, and one of this machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulated", type=int, default=1000, metavar="N")
    parser.add_argument("--real", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = [one for name in LAWS if options.simulated for one in simulated(name, options.simulated, options.seed)]
    found += real(options.real, options.seed) if options.real else []
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    for one in found:
        print(
            f"{one.what:36} {one.covered_frac:6.1%} of {one.measurements} intervals hold it; half width "
            f"{one.half_width_frac:.2%}, {one.repeats:.0f} repeats, {one.steady_frac:.0%} steady"
        )


if __name__ == "__main__":
    main()
