"""Background sampling of a running case from its parent process.

Every source is a Sampler; each reading carries the time of `time.perf_counter`, which on Linux is CLOCK_MONOTONIC
and so the same clock in parent and worker. Sampling measures its own cost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

import msgspec


class Sampler(Protocol):
    """One source of readings. A channel's name ends in its unit (_frac _bytes _hz _w _j _c _s) or is a count."""

    def available(self) -> str | None:
        """None, or why this source cannot be read here."""
        ...

    def channels(self) -> tuple[str, ...]:
        """Names of what `read` gives; valid once `available` has answered None."""
        ...

    def read(self) -> dict[str, float]:
        """Readings now; a channel that cannot be read at this moment is left out."""
        ...


class Sample(msgspec.Struct, frozen=True):
    """Readings of all sources at `at_s` (perf_counter)."""

    at_s: float
    values: dict[str, float]


class Telemetry:
    """Samples in a thread of the parent while the block runs; afterwards holds `samples`, `absent` and `cost_frac`.

    `absent` maps the class name of each source that cannot be read to its reason. `cost_frac` is CPU seconds spent
    sampling per second elapsed.
    """

    def __init__(self, samplers: Sequence[Sampler], period_s: float = 0.1) -> None:
        """Sample every `period_s` seconds. ValueError unless it is positive."""
        if period_s <= 0:
            raise ValueError(f"period_s must be positive, got {period_s}")
        self.period_s = period_s
        self.samples: list[Sample] = []
        self.absent: dict[str, str] = {}
        self.cost_frac = 0.0
        self._samplers = self._usable(samplers)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="telemetry", daemon=True)

    def _usable(self, samplers: Sequence[Sampler]) -> list[Sampler]:
        reasons = [(s, s.available()) for s in samplers]
        self.absent = {type(s).__name__: reason for s, reason in reasons if reason is not None}
        return [s for s, reason in reasons if reason is None]

    def channels(self) -> tuple[str, ...]:
        """All channels of the usable sources."""
        return tuple(name for s in self._samplers for name in s.channels())

    def __enter__(self) -> Telemetry:
        """Start sampling."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take a last sample and stop."""
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        started, cpu = time.perf_counter(), time.thread_time()
        while True:
            self.samples.append(self._sample())
            elapsed = time.perf_counter() - started
            self.cost_frac = (time.thread_time() - cpu) / elapsed if elapsed > 0 else 0.0
            # Aligned to the start, so that slow readings do not stretch the period.
            if self._stop.wait(self.period_s - elapsed % self.period_s):
                break
        self.samples.append(self._sample())

    def _sample(self) -> Sample:
        values: dict[str, float] = {}
        at_s = time.perf_counter()
        for sampler in self._samplers:
            values.update(sampler.read())
        return Sample(at_s, values)
