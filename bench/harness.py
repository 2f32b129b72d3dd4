"""One case in its worker: build, check, warm up, repeat, trace. Runs in a process of its own (bench/pool.py).

What it finds is sent as events: `phase` (what it does now), `measuring` and `measured` (so that the parent can watch
the machine meanwhile), `check_failed`, and `result` with the parts of a Record.
"""

from __future__ import annotations

import gc
import importlib.util
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from bench.clocks import Clock, CudaClock, HostClock, Step
from bench.environment import in_force
from bench.forkserver import Emit
from bench.measuring import measure
from bench.records import (
    Case,
    Check,
    Costs,
    InputStats,
    Limits,
    Measurement,
    Replayed,
    Settings,
    StageTime,
    TraceSummary,
)
from workloads import executions
from workloads.batch import Achieved, Batch
from workloads.describe import DTYPE_BYTES
from workloads.executions import Graphs, Ready
from workloads.spec import ModelSpec
from workloads.work import STAGES, TableTouch, Work

LLC_MULTIPLE = 4
"""Rotated inputs touch distinct rows of this many last-level caches, so that no row waits there for its next use."""
COVERAGE_LOOKUPS = 3
"""Past this many lookups per table row nearly every row has been touched: more inputs touch nothing new."""
GENERATE_LOOKUPS_PER_S = 7e6
"""Lookups drawn, counted and converted per second of measuring time, so that inputs never take longer than timing."""
GENERATE_TABLE_S = 1e-4
"""What one table of one batch costs however few its lookups: generators, views, counting. Small batches are this."""
MAX_INPUT_BYTES = 2 * 2**30
MIN_LAUNCHES_PER_REPEAT = 20
PROBED_ROWS = 1000
SETTLING_CALLS = 32
"""Calls on further inputs before timing, so that what another shape compiles is not timed."""
LATENCY_STEPS = 50
UNKNOWN_LLC_BYTES = 64 * 2**20


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is asked to do. `scratch` is an empty folder that whoever asks removes, also after a kill."""

    case: Case
    limits: Limits
    llc_bytes: int
    trace_path: str | None = None
    scratch: str | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a Record that only the worker knows."""

    measurement: Measurement
    settings: Settings
    costs: Costs
    work: Work | None = None
    inputs: InputStats | None = None
    check: Check | None = None
    graphs: Graphs | None = None
    trace: TraceSummary | None = None
    parameters: dict[str, int] | None = None
    rounding_error: float | None = None


class Prepared(msgspec.Struct, frozen=True):
    """The step of a case, its first call, and what making it cost (None where nothing was made)."""

    ready: Ready
    first_call_s: float
    compile_s: float | None


class WrongResultError(Exception):
    """The output differs from the float64 reference by more than its tolerance."""


class InvariantError(Exception):
    """The measurement breaks a rule that no honest one can."""


class Stopwatch:
    """Adds up the wall time of named parts."""

    def __init__(self, emit: Emit) -> None:
        self.parts: dict[str, float] = {}
        self._emit = emit
        self._started = time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time one part and tell the parent that it has begun."""
        self._emit("phase", {"phase": name})
        began = time.perf_counter()
        try:
            yield
        finally:
            self.parts[name] = self.parts.get(name, 0.0) + time.perf_counter() - began

    def costs(self) -> Costs:
        """Costs so far."""
        parts = {f"{name}_s": seconds for name, seconds in self.parts.items()}
        return Costs(total_s=time.perf_counter() - self._started, **parts)


def run_case(payload: bytes, emit: Emit) -> None:
    """Entry of a worker: one Request in, one Result out."""
    request = msgspec.json.decode(payload, type=Request)
    result = _run_code(request, emit) if request.case.code else _run_model(request, emit)
    emit("result", msgspec.to_builtins(result))


def _run_model(request: Request, emit: Emit) -> Result:
    if request.scratch is not None:
        return _run_model_in(Path(request.scratch), request, emit)
    with tempfile.TemporaryDirectory(prefix="dlrm-bench-") as own:
        return _run_model_in(Path(own), request, emit)


def _run_model_in(scratch: Path, request: Request, emit: Emit) -> Result:
    import torch

    from workloads import batch as batches
    from workloads import inputs as sources
    from workloads import models, reference, rounding, steps

    case, watch = request.case, Stopwatch(emit)
    spec = case.model
    if spec is None:
        raise ValueError("a case needs a model or code")
    threads = apply_settings(case)
    with watch.part("build"):
        bundle = steps.build_model(
            spec,
            backend=case.backend,
            device=case.device,
            dtype=case.dtype,
            phase=case.phase,
            optimizer=case.optimizer,
            seed=case.seed,
            num_threads=threads,
            placement=case.placement,
            cache_load_factor=case.cache_load_factor,
        )
    with watch.part("inputs"):
        made, wrapped = sources.make_inputs(spec, case.batch_size, case.seed, num_batches(request))
        touches = batches.touch(spec, made)
        stats = input_stats(spec, made, touches, request.llc_bytes, wrapped=wrapped)
        inputs = [bundle.prepare(batch) for batch in made]
    with watch.part("prepare"):
        prepared = prepare(bundle, inputs, case.execution, scratch)
        step = prepared.ready.step
    with watch.part("check"):
        checked = reference.check(bundle, made[0], step, same_kernels=prepared.ready.same_kernels)
        check = Check(max_error=checked.max_error, tolerance=checked.tolerance, what=checked.what)
        if not checked.ok:
            raise WrongResultError(f"{check.what}: largest error {check.max_error:.3g}, tolerance {check.tolerance:g}")
        rounded = rounding.rounding_error(bundle, made[0], case.seed, threads)
    del made
    require_honest(bundle, step(inputs[0]))
    work = models.count_work(spec, case.batch_size, case.phase, touches, DTYPE_BYTES[case.dtype])
    with gc_off():
        with watch.part("measure"):
            measurement = _measure(step, inputs, request, emit)
        graphs = prepared.ready.graphs()
        settings = read_settings(case, torch.is_grad_enabled() and case.phase == "train_step")
        with watch.part("trace"):
            trace = _trace(prepared.ready, inputs, request, measurement)
    return Result(
        measurement=with_preparation(measurement, prepared, graphs),
        settings=settings,
        costs=watch.costs(),
        work=work,
        inputs=stats,
        check=check,
        graphs=graphs,
        trace=trace,
        parameters=steps.parameter_counts(bundle),
        rounding_error=rounded,
    )


def prepare(bundle: Any, inputs: Sequence[Any], execution: str, scratch: Path) -> Prepared:
    """The bundle's step as `execution` runs it, after calls on every shape of input, so that no timed one compiles."""
    began = time.perf_counter()
    ready = executions.load(execution).wrap(bundle, inputs, scratch)
    wrapped = time.perf_counter()
    _call(ready, inputs[0], bundle.device)
    first_call_s = time.perf_counter() - wrapped
    compile_s = None
    if ready.graphs() is not None:
        lazily_s = first_call_s + _settle(ready, inputs, bundle.device) if ready.lazy else 0.0
        compile_s = wrapped - began + lazily_s
    # The check starts from the optimizer's zero state.
    bundle.model.embedding.reset_optimizer_state()
    return Prepared(ready, first_call_s, compile_s)


def _settle(ready: Ready, inputs: Sequence[Any], device: Any) -> float:
    """Call the step on the other inputs; seconds of those calls that compiled something."""
    spent_s, known = 0.0, ready.graphs()
    for item in inputs[1 : SETTLING_CALLS + 1]:
        began = time.perf_counter()
        _call(ready, item, device)
        found = ready.graphs()
        if found != known:
            spent_s += time.perf_counter() - began
        known = found
    return spent_s


def _call(ready: Ready, item: Any, device: Any) -> None:
    """One step, finished: on a GPU a call returns before its work is done."""
    ready.step(item)
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def with_preparation(measurement: Measurement, prepared: Prepared, graphs: Graphs | None) -> Measurement:
    """The measurement with its first call, its compile time, and flags for what compiling left undone."""
    found = {"graph_breaks": bool(graphs and graphs.breaks), "recompiled": bool(graphs and graphs.recompiles)}
    return msgspec.structs.replace(
        measurement,
        first_call_s=prepared.first_call_s,
        compile_s=prepared.compile_s,
        flags=(*measurement.flags, *(name for name, yes in found.items() if yes)),
    )


def require_honest(bundle: Any, output: Any) -> None:
    """Refuse to time what no honest case has: tables without values, or a graph recorded in a forward step.

    Raises InvariantError.
    """
    import numpy as np

    for number, table in enumerate(bundle.spec.tables):
        rows = np.unique(np.linspace(0, table.num_rows - 1, PROBED_ROWS).astype(np.int64))
        if not bundle.model.embedding.take_rows(number, rows).any(axis=1).all():
            raise InvariantError(f"table {number} holds rows of zeros: its pages may never have been written")
    if bundle.phase == "forward" and output.requires_grad:
        raise InvariantError("a forward step records a graph for autograd")


def _run_code(request: Request, emit: Emit) -> Result:
    """A user's own step: path.py:function returns a step callable, or that and its Work."""
    import torch

    case, watch = request.case, Stopwatch(emit)
    apply_settings(case)
    with watch.part("build"):
        made = load_function(str(case.code))()
        step, work = made if isinstance(made, tuple) else (made, None)
    with gc_off():
        with watch.part("measure"):
            measurement = _measure(lambda _: step(), [None], request, emit)
        settings = read_settings(case, torch.is_grad_enabled())
        with watch.part("trace"):
            ready = Ready(step=lambda _: step(), annotated=SimpleNamespace())
            trace = _trace(ready, [None], request, measurement)
    return Result(measurement=measurement, settings=settings, costs=watch.costs(), work=work, trace=trace)


def load_function(code: str) -> Callable[[], Any]:
    """The function that `path.py:function` names. Raises ImportError or AttributeError with both in the message."""
    path, _, name = code.rpartition(":")
    module_spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if module_spec is None or module_spec.loader is None:
        raise ImportError(f"{path} cannot be loaded as a Python file")
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    function: Callable[[], Any] | None = getattr(module, name, None)
    if function is None:
        raise AttributeError(f"{path} has no function {name}")
    return function


def _measure(step: Step, inputs: Sequence[Any], request: Request, emit: Emit) -> Measurement:
    case = request.case
    on_cuda = case.device.startswith("cuda")
    clock: Clock = HostClock()
    if on_cuda:
        import torch

        clock = CudaClock(torch.cuda)
        torch.cuda.reset_peak_memory_stats()
    between = _flush(request.llc_bytes, case.device) if case.cache_mode == "cold" else None
    emit("measuring", {"pid": os.getpid()})
    measurement = measure(
        step,
        inputs,
        clock,
        request.limits,
        min_steps=MIN_LAUNCHES_PER_REPEAT if on_cuda else 1,
        between=between,
        latency_steps=LATENCY_STEPS if on_cuda else 0,
    )
    emit("measured", {})
    if on_cuda:
        peak = torch.cuda.max_memory_allocated()
        measurement = msgspec.structs.replace(measurement, device_peak_bytes=peak)
    return measurement


def _flush(llc_bytes: int, device: str) -> Callable[[], None]:
    """Streams a buffer of two last-level caches, allocated once."""
    import torch

    size = 2 * (llc_bytes or UNKNOWN_LLC_BYTES)
    buffer = torch.ones(size // 4, device=device)
    return lambda: (buffer.add_(1.0), None)[1]


def _trace(ready: Ready, inputs: Sequence[Any], request: Request, measurement: Measurement) -> TraceSummary | None:
    """A bounded profiler pass of its own, on inputs the timed steps used too."""
    if request.trace_path is None or not request.limits.trace:
        return None
    from profiles.capture import capture
    from profiles.trace.reader import read_trace
    from profiles.trace.stages import stage_times
    from workloads.layers import set_tracing
    from workloads.steps import TABLE_UPDATE

    path, steps = Path(request.trace_path), request.limits.trace_steps
    feed = cycle(inputs)
    set_tracing(ready.annotated, True)
    capture(lambda: ready.step(next(feed)), path, steps=steps, device=request.case.device)
    set_tracing(ready.annotated, False)
    found = stage_times(read_trace(path), (*STAGES, TABLE_UPDATE, *ready.stages), steps)
    timed_s = sorted(measurement.times_s)[len(measurement.times_s) // 2]
    # A GPU's kernels last as long under the profiler as without, so their share is of the timed step itself.
    whole_s = timed_s if found.on_device else found.step_s
    stages = {
        name: StageTime(forward_s=f, backward_s=b, share_frac=(f + b) / whole_s)
        for name, (f, b) in _with_update(found.stages).items()
        if f + b > 0
    }
    return TraceSummary(
        path=f"traces/{path.name}",
        steps=steps,
        step_s=found.step_s,
        overhead_ratio=found.step_s / timed_s,
        stages=stages,
        coverage_frac=found.coverage_frac,
        clock="device" if found.on_device else "host",
    )


def _with_update(stages: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """A table update of its own counted into the embedding's backward, where a fused backend does it."""
    from workloads.steps import TABLE_UPDATE

    merged = dict(stages)
    update_s = sum(merged.pop(TABLE_UPDATE, (0.0, 0.0)))
    forward_s, backward_s = merged.get("embedding", (0.0, 0.0))
    return merged | {"embedding": (forward_s, backward_s + update_s)}


@contextmanager
def gc_off() -> Iterator[None]:
    """No garbage collection while timing."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def num_batches(request: Request) -> int:
    """How many batches to rotate through.

    Enough that their distinct rows exceed four last-level caches, or that nearly every row has been touched, or that
    no step of the whole measurement would meet a batch again; bounded by memory and by the time to make them.
    """
    from workloads import inputs

    case, limits, spec = request.case, request.limits, request.case.model
    if spec is None or case.cache_mode == "hot":
        return 1
    llc_bytes = request.llc_bytes or UNKNOWN_LLC_BYTES
    lookups = case.batch_size * spec.lookups_per_sample
    unique_bytes = inputs.unique_bytes(spec, case.batch_size)
    enough = math.ceil(LLC_MULTIPLE * llc_bytes / max(unique_bytes, 1))
    covering = math.ceil(max(COVERAGE_LOOKUPS * t.num_rows / (case.batch_size * t.pooling_factor) for t in spec.tables))
    batch_bytes = 2 * 8 * lookups + 4 * case.batch_size * (spec.num_dense + 1)
    # A precise case may stop after the least number of repeats, long before its budget is used.
    surely_s = min(limits.budget_s, limits.min_repeats * limits.min_repeat_s)
    batch_s = lookups / GENERATE_LOOKUPS_PER_S + GENERATE_TABLE_S * (len(spec.tables) + 1)
    affordable = min(MAX_INPUT_BYTES / batch_bytes, surely_s / batch_s)
    return max(2, min(enough, covering, int(affordable)))


def input_stats(
    spec: ModelSpec, made: Sequence[Batch], touches: Sequence[TableTouch], llc_bytes: int, *, wrapped: bool = False
) -> InputStats:
    """What the inputs really are; residency compares the bytes they touch with the last-level cache."""
    from workloads.batch import achieved

    lookups = sum(t.lookups for t in touches)
    unique = sum(t.unique_rows for t in touches)
    touched = sum(t.rotation_unique_rows * table.row_bytes for t, table in zip(touches, spec.tables, strict=True))
    found = achieved(spec, made)
    share = [t.lookups / max(lookups, 1) for t in touches]
    return InputStats(
        num_batches=len(made),
        lookups_per_step=lookups,
        unique_rows_per_step=unique,
        unique_frac=unique / max(lookups, 1),
        mean_length=sum(a.length_mean for a in found) / len(found),
        p99_length=max(a.length_p99 for a in found),
        top_1pct_mass=sum(s * a.top1_frac for s, a in zip(share, found, strict=True)),
        rotation_unique_bytes=touched,
        llc_bytes=llc_bytes,
        residency=residency(touched, llc_bytes),
        **_distances(found),
        replay=_replayed(spec, made, wrapped),
    )


def _distances(found: Sequence[Achieved]) -> dict[str, Any]:
    """Of the tables whose draws can be compared, the one that is farthest from its law for its number of draws."""

    def farthest(field: str, number: str) -> dict[str, Any]:
        known = [(getattr(a, field), getattr(a, number)) for a in found if getattr(a, field) is not None]
        ks, n = max(known, key=lambda pair: pair[0] * math.sqrt(pair[1]), default=(None, 0))
        return {field: ks, number: n}

    return farthest("index_ks", "index_ks_lookups") | farthest("length_ks", "length_ks_bags")


def _replayed(spec: ModelSpec, made: Sequence[Batch], wrapped: bool) -> Replayed | None:
    from workloads.inputs import rows_remapped_frac

    if spec.captured is None:
        return None
    return Replayed(
        file=Path(spec.replay).name,
        digest=spec.captured.digest,
        samples=spec.captured.samples,
        tables=spec.captured.tables,
        remapped_frac=rows_remapped_frac(made),
        wrapped=wrapped,
    )


def residency(touched_bytes: int, llc_bytes: int) -> Any:
    """`dram` where the rows touched exceed twice the last-level cache, `cache` where they fill less than half of it."""
    if llc_bytes <= 0:
        return "unknown"
    if touched_bytes > 2 * llc_bytes:
        return "dram"
    return "cache" if touched_bytes < llc_bytes / 2 else "mixed"


def apply_settings(case: Case) -> int:
    """Put the case's settings in force; returns the number of threads."""
    import torch

    threads = case.num_threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high" if case.tf32 else "highest")
    if case.device.startswith("cuda"):
        # Events, synchronisation and memory statistics are those of the current device.
        torch.cuda.set_device(torch.device(case.device))
    torch.manual_seed(case.seed)
    torch.autograd.set_detect_anomaly(False)
    return threads


def read_settings(case: Case, grad_mode: bool) -> Settings:
    """The settings as the process has them now."""
    import torch

    return Settings(
        num_threads=torch.get_num_threads(),
        interop_threads=torch.get_num_interop_threads(),
        affinity=tuple(sorted(os.sched_getaffinity(0))),
        allocator_env=in_force(),
        transparent_huge_pages=_read_text("/sys/kernel/mm/transparent_hugepage/enabled"),
        anon_huge_bytes=_anon_huge_bytes(),
        matmul_precision=torch.get_float32_matmul_precision(),
        tf32=case.device.startswith("cuda") and torch.get_float32_matmul_precision() != "highest",
        flush_denormal=_flushes_denormals(),
        inference_mode=torch.is_inference_mode_enabled(),
        grad_mode=grad_mode,
        gc_disabled=not gc.isenabled(),
    )


def _flushes_denormals() -> bool:
    """torch can set it but not say it: a product whose result is denormal tells."""
    import torch

    return not bool((torch.tensor([1e-30]) * 1e-10).any())


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"


def _anon_huge_bytes() -> int:
    lines = _read_text("/proc/self/smaps_rollup").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("AnonHugePages")), 0)
