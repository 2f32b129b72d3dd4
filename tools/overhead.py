"""Does the harness report what a bare loop takes? `python -m tools.overhead [--alternations 10]`

Runs both in one worker process, alternating, on embedding, MLP and DLRM steps of about 1 to 10 ms, and prints the
ratio of the medians over the alternations (1.000 is no overhead).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from statistics import median
from typing import Any

import msgspec

from bench.environment import environment
from bench.forkserver import Emit
from bench.pool import Pool
from bench.records import Limits

CASES = (
    ("tbe_default", "tbe", "forward", {"num_tables": 8, "num_rows": 200_000, "dim": 64}, 256),
    ("paper", "fused_bag", "forward", {"num_rows": 200_000, "pooling_factor": 5}, 128),
    ("paper", "tbe", "train_step", {"num_rows": 200_000, "pooling_factor": 5}, 64),
    ("tiny", "bag", "forward", {}, 2048),
)
LIMITS = Limits(budget_s=1.0, min_repeats=10)


def bare_loop(step: Callable[[Any], object], inputs: Sequence[Any], repeats: int, steps: int) -> float:
    """Median over repeats of the mean step time, with nothing but two time stamps around each repeat."""
    feed, times = cycle(inputs), []
    for _ in range(repeats):
        chosen = list(islice(feed, steps))
        began = time.perf_counter()
        for item in chosen:
            step(item)
        times.append((time.perf_counter() - began) / steps)
    return median(times)


def job(payload: bytes, emit: Emit) -> None:
    """One case, alternating; emits the medians of both."""
    from bench.clocks import HostClock
    from bench.harness import gc_off
    from bench.measuring import measure
    from bench.sweep_spec import make_case
    from workloads import steps
    from workloads.batch import make_batch

    preset, backend, phase, settings, batch_size, alternations = msgspec.json.decode(payload)
    case = make_case(preset, None, settings | {"backend": backend, "phase": phase, "batch_size": batch_size})
    bundle = steps.build_model(case.model, backend=backend, phase=phase)
    inputs = [bundle.prepare(make_batch(case.model, batch_size, 0, n)) for n in range(16)]
    step = steps.make_step(bundle)
    with gc_off():
        measure(step, inputs, HostClock(), LIMITS)
        for _ in range(alternations):
            ours = measure(step, inputs, HostClock(), LIMITS)
            bare_s = bare_loop(step, inputs, len(ours.times_s), ours.steps_per_repeat)
            emit("pair", {"ours_s": median(ours.times_s), "bare_s": bare_s})


def main() -> None:
    """Print one line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alternations", type=int, default=10)
    alternations = parser.parse_args().alternations
    with Pool() as pool:
        server = pool.server(environment("pinned", True))
        for case in CASES:
            pairs: list[dict[str, float]] = []

            def on_event(kind: str, body: dict[str, float], pairs: list[dict[str, float]] = pairs) -> None:
                pairs.append(body)

            ending = server.run("tools.overhead:job", [*case, alternations], on_event, 600)
            if ending.kind != "ok":
                raise SystemExit(ending.log)
            ours, bare = (median(p[side] for p in pairs) for side in ("ours_s", "bare_s"))
            print(f"{case[0]:12} {case[1]:10} {case[2]:11} bare {bare * 1e3:7.3f} ms  ours/bare {ours / bare:.4f}")


if __name__ == "__main__":
    main()
