"""What does watching cost? `python -m tools.sampling_cost [--readings 300] [--json]`

Times readings of every telemetry source of this machine on this process, one source at a time, and then all of them
together as a case is watched (ten times a second). Prints microseconds a reading, and the share of one CPU that
sampling takes. Whether that moves the number is measured by `python -m tools.agreement` (telemetry on/off).
"""

from __future__ import annotations

import argparse
import os
import time
from statistics import median

import msgspec

from bench.running.watching import samplers
from profiles.telemetry import Sampler, Telemetry

WATCHED_S = 5.0


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """One source: median and slowest reading, channels; or why it is absent."""

    source: str
    reading_us: float
    slowest_us: float
    channels: int
    absent: str | None = None


def cost(sampler: Sampler, readings: int) -> Cost:
    """Of one source."""
    name, reason = type(sampler).__name__, sampler.available()
    if reason is not None:
        return Cost(source=name, reading_us=0.0, slowest_us=0.0, channels=0, absent=reason)
    times = []
    for _ in range(readings):
        began = time.perf_counter()
        sampler.read()
        times.append(1e6 * (time.perf_counter() - began))
    return Cost(
        source=name, reading_us=median(times), slowest_us=max(times), channels=len(sampler.channels()), absent=None
    )


def main() -> None:
    """One line per source, one for all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readings", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = [cost(s, options.readings) for s in samplers(os.getpid(), "cpu")]
    with Telemetry(samplers(os.getpid(), "cpu")) as telemetry:
        time.sleep(WATCHED_S)
    if options.json:
        told = {"sources": found, "cost_frac": telemetry.cost_frac, "samples": len(telemetry.samples)}
        print(msgspec.json.format(msgspec.json.encode(told)).decode())
        return
    for one in found:
        told = (
            f"absent: {one.absent}"
            if one.absent
            else f"{one.reading_us:7.0f} us a reading, slowest {one.slowest_us:.0f}"
        )
        print(f"{one.source:24} {told}")
    print(f"all, ten times a second: {telemetry.cost_frac:.3%} of one CPU, {len(telemetry.samples)} samples")


if __name__ == "__main__":
    main()
