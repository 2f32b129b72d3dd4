"""A trace of a few steps: torch.profiler around a callable, on a bounded schedule, never around timed steps."""

from __future__ import annotations

import gc
import gzip
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from profiles.atomic_file import write_atomically

MOST_PASSES, ENOUGH_S = 6, 15.0
"""Passes are taken until one is settled; no further one begins after so many seconds."""
SETTLED_FAULTS = 20
"""Page faults of a profiled step that has settled: the profiler's own records take a few pages."""
SHORT_S = 0.5
"""After recorded steps as short as this, another pass is next to free: the first one runs the profiler's code cold."""
BEFORE = "before_step"
"""Annotation of what `before` does; it lies outside the annotation of the step."""


def capture(
    step: Callable[[], object],
    path: Path,
    *,
    steps: int = 3,
    warmup: int = 1,
    device: str = "cpu",
    wait: int = 1,
    before: Callable[[], object] | None = None,
) -> None:
    """Run wait + warmup + steps calls of `step` and write the Chrome trace of the last `steps` to `path`.

    `path` ends in .json or .json.gz and is written whole or not at all. On 'cuda' kernels are recorded too. Shapes
    are recorded, stacks are not. On a CPU the pass is taken again until it has settled, and the last one is written:
    what the profiler keeps lies in the heap where the step's temporaries were, and makes it grow by memory that is
    slow when first touched, which no timed step does. `before` is called before each step and is done when that
    begins: recorded, but as no part of a step. ValueError for another suffix or steps < 1.
    """
    if steps < 1 or not path.name.endswith((".json", ".json.gz")):
        raise ValueError(f"capture needs steps >= 1 and a .json or .json.gz path, got steps={steps}, {path}")
    taking = _Pass(step, device, steps, wait, warmup, before)
    began = time.perf_counter()
    for number in range(1, MOST_PASSES + 1 if device == "cpu" else 2):
        found = taking.take()
        cold = number == 1 and found.seconds < SHORT_S
        if time.perf_counter() - began > ENOUGH_S or (found.faults <= SETTLED_FAULTS * steps and not cold):
            break
    _export(taking.profiler, path)


class _Taken(NamedTuple):
    """What the recorded steps of one pass took: page faults and seconds."""

    faults: int
    seconds: float


class _Pass:
    """One run of the step under the profiler's schedule."""

    def __init__(
        self,
        step: Callable[[], object],
        device: str,
        steps: int,
        wait: int,
        warmup: int,
        before: Callable[[], object] | None,
    ) -> None:
        self._step, self._device, self._steps = step, device, steps
        self._wait, self._warmup, self._before = wait, warmup, before
        self.profiler: Any = None

    def take(self) -> _Taken:
        """Run it; what is recorded stays in `profiler`."""
        from torch.profiler import ProfilerActivity, profile, schedule

        # What a pass before kept is in cycles, and the collector may be off.
        self.profiler = None
        gc.collect()
        on_cuda = self._device.startswith("cuda")
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
        plan = schedule(wait=self._wait, warmup=self._warmup, active=self._steps, repeat=1)
        unrecorded, faults, seconds = self._wait + self._warmup, 0, 0.0
        with profile(activities=activities, schedule=plan, record_shapes=True, acc_events=True) as profiler:
            for number in range(unrecorded + self._steps):
                if self._before is not None:
                    self._one(self._before, BEFORE, on_cuda)
                held, began = _faults(), time.perf_counter()
                self._one(self._step, "step", on_cuda)
                took, came = time.perf_counter() - began, _faults() - held
                if number >= unrecorded:
                    faults, seconds = faults + came, seconds + took
                profiler.step()
        self.profiler = profiler
        return _Taken(faults, seconds)

    def _one(self, call: Callable[[], object], name: str, on_cuda: bool) -> None:
        import torch

        with torch.profiler.record_function(name):
            call()
            if on_cuda:
                torch.cuda.synchronize(self._device)


def _faults() -> int:
    """Pages that this process had to wait for so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _export(profiler: object, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(plain))  # type: ignore[attr-defined]
        content = plain.read_bytes()
    write_atomically(path, gzip.compress(content, compresslevel=5) if path.name.endswith(".gz") else content)
