"""The parent's eyes on a worker: its events, and the machine's telemetry while it measures."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from bench.records import Channel
from bench.running.request import Result
from profiles.samplers.host import HostSampler
from profiles.samplers.memory_traffic import MemoryTrafficSampler
from profiles.samplers.nvml import NvmlSampler
from profiles.samplers.process import ProcessSampler
from profiles.samplers.rapl import RaplSampler
from profiles.telemetry import Sampler, Telemetry


def samplers(pid: int, device: str, pci: str | None = None) -> list[Sampler]:
    """What can be watched while worker `pid` runs on `device`, a GPU by its bus id where that is known.

    Each says itself whether it is available.
    """
    found: list[Sampler] = [ProcessSampler(pid), HostSampler(), RaplSampler(), MemoryTrafficSampler()]
    if device.startswith("cuda"):
        found.append(NvmlSampler(int(device.partition(":")[2] or 0), pci=pci))
    return found


class Watch:
    """Receives a worker's events; samples between `measuring` and `measured`. Use as a context manager."""

    def __init__(self, device: str, on_phase: Callable[[str], None], pci: str | None = None) -> None:
        self._device, self._on_phase, self._pci = device, on_phase, pci
        self._telemetry: Telemetry | None = None
        self._sources: dict[str, str] = {}
        self._sampling = False
        self._began = time.perf_counter()
        self.result: Result | None = None
        self.phase = "start"
        self.elapsed_s = 0.0

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.elapsed_s = time.perf_counter() - self._began
        self._stop()

    def __call__(self, kind: str, body: dict[str, Any]) -> None:
        """Take one event."""
        if kind == "phase":
            self.phase = str(body["phase"])
            self._on_phase(self.phase)
        elif kind == "measuring":
            self._start(int(body["pid"]))
        elif kind == "measured":
            self._stop()
        elif kind == "result":
            self.result = msgspec.convert(body, Result)

    def _start(self, pid: int) -> None:
        self._stop()  # of a worker that was lost with its server
        chosen = samplers(pid, self._device, self._pci)
        self._sources = {
            name: type(s).__name__.removesuffix("Sampler").lower() for s in chosen for name in s.channels()
        }
        self._telemetry = Telemetry(chosen)
        self._telemetry.__enter__()
        self._sampling = True

    def _stop(self) -> None:
        if self._telemetry is not None and self._sampling:
            self._sampling = False
            self._telemetry.__exit__(None, None, None)

    def channels(self, origin_s: float) -> tuple[Channel, ...]:
        """What was sampled, at seconds since `origin_s` on the monotonic clock."""
        if self._telemetry is None:
            return ()
        samples = self._telemetry.samples
        found = []
        for name in self._telemetry.channels():
            seen = [(s.at_s - origin_s, s.values[name]) for s in samples if name in s.values]
            if seen:
                times, values = zip(*seen, strict=True)
                found.append(Channel(name=name, source=self._sources[name], times_s=times, values=values))
        return tuple(found)


def other_load_cpus(channels: tuple[Channel, ...], cpus: int) -> float:
    """CPUs that something else kept busy while the worker measured: the machine's use less the worker's own."""
    mean = {c.name: sum(c.values) / len(c.values) for c in channels}
    if "host_cpu_frac" not in mean or "cpu_frac" not in mean:
        return 0.0
    return mean["host_cpu_frac"] * cpus - mean["cpu_frac"]
