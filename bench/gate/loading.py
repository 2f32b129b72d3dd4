"""Cases inside a side's process: a user's function, a model of the side's `workloads`, a null control; warmed, timed.

Loaded by worker.py from beside it; nothing of `bench` is imported.
"""

from __future__ import annotations

import importlib.util
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

WARMUP_MIN_STEPS = 3
WARMUP_WINDOW = 5
WARMUP_CHANGE_FRAC = 0.03
WARMUP_MAX_S = 1.0
CONTROL_ROWS, CONTROL_ROWS_A_STEP = 1 << 20, 4096
CONTROL_ROW_BYTES, HUGE_PAGE_BYTES = 256, 1 << 21
"""256 MiB of rows: more than an L3, at whose edge a process draws its own share of hits."""

Request = dict[str, Any]
_IMPORTED: dict[str, Any] = {}


class AbsentError(Exception):
    """The side's code has no such file or function."""


class Loaded:
    """The case that this side has built: a step per input, and what counting it needs."""

    def __init__(self, step: Callable[[Any], Any], inputs: list[Any], work: Any = None, check: Any = None) -> None:
        self.step, self.inputs, self.work, self.check = step, inputs, work, check

    def feed(self, first: int) -> Iterator[Any]:
        """Inputs in rotation, from number `first`."""
        while True:
            yield self.inputs[first % len(self.inputs)]
            first += 1


def load_case(request: Request) -> Loaded:
    """The case that a request asks for."""
    if request.get("control"):
        return control(request["control"])
    return from_code(request) if request.get("code") else from_model(request)


def settle(request: Request) -> None:
    """The same threads and seeds on both sides, for what the side's code has imported."""
    seed = request.get("seed", 0)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.set_num_threads(request.get("num_threads") or len(os.sched_getaffinity(0)))
        torch.manual_seed(seed)


def from_code(request: Request) -> Loaded:
    """A user's function of path.py:function: it returns a step, or a step and its Work."""
    path, _, name = request["code"].rpartition(":")
    function = getattr(module_of(path), name, None)
    if function is None:
        raise AbsentError(f"{path} has no function {name}")
    settle(request)
    made = function()
    step, work = made if isinstance(made, tuple) else (made, None)
    if not callable(step):
        raise TypeError(f"{name} of {path} must return a step to call, or (step, Work); it returned {type(step)}")
    return Loaded(lambda _: step(), [None], work)


def module_of(path: str) -> Any:
    """The file as a module, imported once per process."""
    if path in _IMPORTED:
        return _IMPORTED[path]
    if not Path(path).is_file():
        raise AbsentError(f"there is no file {path}")
    folder = str(Path(path).parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(spec.name, module)
    spec.loader.exec_module(module)
    _IMPORTED[path] = module
    return module


def from_model(request: Request) -> Loaded:
    """A model case, built by this side's workloads."""
    import msgspec

    from workloads import batch as batches
    from workloads import models, reference, steps
    from workloads.spec import ModelSpec

    settle(request)
    case = request["case"]
    spec = msgspec.convert(case["model"], ModelSpec)
    bundle = steps.build_model(
        spec,
        backend=case["backend"],
        device=case["device"],
        dtype=case["dtype"],
        phase=case["phase"],
        optimizer=case["optimizer"],
        seed=case["seed"],
        num_threads=request.get("num_threads") or len(os.sched_getaffinity(0)),
    )
    made = [batches.make_batch(spec, case["batch_size"], case["seed"], n) for n in range(request["num_batches"])]
    inputs = [bundle.prepare(b) for b in made]
    first = made[:1]
    work = models.count_work(spec, case["batch_size"], case["phase"], batches.touch(spec, first))

    def check() -> None:
        found = reference.check(bundle, first[0])
        if not found.ok:
            raise ValueError(f"wrong result: {found.what}: error {found.max_error:.3g}, tolerance {found.tolerance:g}")

    return Loaded(steps.make_step(bundle), inputs, work, check)


def control(name: str) -> Loaded:
    """A null control: the same few lines on both sides, one bound by arithmetic, one by memory; no torch needed."""
    import numpy as np

    chance = np.random.default_rng(0)
    if name == "arithmetic":
        values = chance.random(20_000)
        return Loaded(lambda _: np.sqrt(np.sin(values) ** 2 + 1).sum(), [None])
    table, out = _aligned_rows(CONTROL_ROWS), _aligned_rows(CONTROL_ROWS_A_STEP)
    table.fill(1.0)
    rows = list(chance.permutation(CONTROL_ROWS).reshape(-1, CONTROL_ROWS_A_STEP))
    return Loaded(lambda picked: np.take(table, picked, axis=0, out=out, mode="clip"), rows)


def _aligned_rows(rows: int) -> Any:
    """Rows from a huge page's begin: as malloc leaves it, each process draws how many cache lines a row touches."""
    import numpy as np

    room = np.empty(rows * CONTROL_ROW_BYTES + HUGE_PAGE_BYTES, dtype=np.uint8)
    begin = -room.ctypes.data % HUGE_PAGE_BYTES
    return room[begin : begin + rows * CONTROL_ROW_BYTES].view(np.float32).reshape(rows, -1)


def warm(loaded: Loaded) -> float:
    """Steps until two windows' medians agree within 3 % or a second has passed; the last window's median."""
    times: list[float] = []
    feed, began = loaded.feed(1), time.perf_counter()
    while True:
        times.append(clock(loaded.step, [next(feed)]))
        recent = times[WARMUP_MIN_STEPS:]
        if len(recent) >= 2 * WARMUP_WINDOW:
            before = sorted(recent[-2 * WARMUP_WINDOW : -WARMUP_WINDOW])[WARMUP_WINDOW // 2]
            after = sorted(recent[-WARMUP_WINDOW:])[WARMUP_WINDOW // 2]
            if abs(after - before) < WARMUP_CHANGE_FRAC * before:
                return after
        if time.perf_counter() - began > WARMUP_MAX_S and len(times) >= WARMUP_MIN_STEPS:
            return sorted(times[-WARMUP_WINDOW:])[len(times[-WARMUP_WINDOW:]) // 2]


def clock(step: Callable[[Any], Any], inputs: list[Any]) -> float:
    """Seconds for all inputs: device events once CUDA is in use, else the host's clock."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for item in inputs:
            step(item)
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end)) * 1e-3
    began = time.perf_counter_ns()
    for item in inputs:
        step(item)
    return (time.perf_counter_ns() - began) * 1e-9


def not_finite(output: Any) -> bool:
    """Whether the step's output, a tensor, an array, a number or a collection of these, holds NaN."""
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, list | tuple):
        return any(not_finite(part) for part in output)
    if isinstance(output, float):
        return math.isnan(output)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(output, torch.Tensor):
        return bool(output.is_floating_point() and torch.isnan(output).any())
    if type(output).__module__ == "numpy" and getattr(getattr(output, "dtype", None), "kind", "") == "f":
        return bool(sys.modules["numpy"].isnan(output).any())
    return False
