"""One case in its worker: build, check, warm up, repeat, trace. Runs in a process of its own (bench/running/pool.py).

What it finds is sent as events: `phase` (what it does now), `measuring` and `measured` (so that the parent can watch
the machine meanwhile), `check_failed`, and `result` with the parts of a Record.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec

from bench.records import Case, Check, Costs, InputStats, Measurement, Settings
from bench.running.case_inputs import input_stats, measured_as_long, num_batches
from bench.running.clocks import Clock, CudaClock, HostClock, Step
from bench.running.flush import flush_of
from bench.running.forkserver import Emit
from bench.running.measuring import measure
from bench.running.own_code import load_function
from bench.running.reading_back import not_in_force, read_settings, setting_flags
from bench.running.request import Request, Result
from bench.running.settings import apply_settings, gc_off
from bench.running.tracing import trace_case, trace_flags
from workloads import executions
from workloads.describe import DTYPE_BYTES
from workloads.executions import Graphs, Ready
from workloads.options import INDEX_DTYPES
from workloads.work import Work, with_index_bytes

MIN_LAUNCHES_PER_REPEAT = 20
"""A step is one launch at least, so that of short steps a repeat on a GPU has as many."""
PROBED_ROWS = 1000
SETTLING_CALLS = 32
"""Calls on further inputs before timing, so that what another shape compiles is not timed."""
LATENCY_STEPS = 50


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

    from workloads import steps

    case, watch = request.case, Stopwatch(emit)
    threads = apply_settings(case)
    with watch.part("build"):
        bundle = _build(case, threads)
    with watch.part("inputs"):
        given = _make_inputs(request, bundle)
    with watch.part("prepare"):
        prepared = prepare(bundle, given.inputs, case.execution, scratch)
        step = prepared.ready.step
    with watch.part("check"):
        check, rounded = _check(bundle, given.first, prepared.ready, case.seed, threads)
    output = step(given.inputs[0])
    require_honest(bundle, output)
    limits = measured_as_long(request.limits, watch.parts["inputs"])
    with gc_off():
        with watch.part("measure"):
            measurement = _measure(step, given.inputs, msgspec.structs.replace(request, limits=limits), emit)
        graphs = prepared.ready.graphs()
        training = torch.is_grad_enabled() and case.phase == "train_step"
        settings = require_settings(case, read_settings(case, training, bundle, given.inputs, output))
        with watch.part("trace"):
            trace = trace_case(prepared.ready, given.inputs, request, measurement)
    flags = (*setting_flags(case, settings), *trace_flags(trace, measurement.times_s))
    return Result(
        measurement=with_flags(with_preparation(measurement, prepared, graphs), flags),
        settings=settings,
        costs=watch.costs(),
        work=given.work,
        inputs=given.stats,
        check=check,
        graphs=graphs,
        trace=trace,
        parameters=steps.parameter_counts(bundle),
        rounding_error=rounded,
    )


def _build(case: Case, threads: int) -> Any:
    """The case's model on its device, with its tables filled. Raises ValueError where the case has none."""
    from workloads import steps

    if case.model is None:
        raise ValueError("a case needs a model or code")
    return steps.build_model(
        case.model,
        backend=case.backend,
        device=case.device,
        dtype=case.dtype,
        phase=case.phase,
        optimizer=case.optimizer,
        seed=case.seed,
        num_threads=threads,
        placement=case.placement,
        cache_load_factor=case.cache_load_factor,
        index_dtype=case.index_dtype,
        bounds_check=case.bounds_check,
        inference_mode=case.inference_mode,
    )


class Given(NamedTuple):
    """The inputs of a case, ready on its device; the first as it was made, for the check; what they touch and cost."""

    inputs: list[Any]
    first: Any
    stats: InputStats
    work: Work


def _make_inputs(request: Request, bundle: Any) -> Given:
    from workloads import batch as batches
    from workloads import inputs as sources
    from workloads import models, placements

    case, spec = request.case, bundle.spec
    stored = placements.as_stored(spec, case.backend, case.device, case.placement)
    made, wrapped = sources.make_inputs(spec, case.batch_size, case.seed, num_batches(request))
    touches = batches.touch(spec, made)
    stats = input_stats(
        stored,
        made,
        touches,
        request.llc_bytes,
        wrapped=wrapped,
        cold=case.cache_mode == "cold",
        measured_llc_bytes=request.measured_llc_bytes,
    )
    work = with_index_bytes(
        models.count_work(stored, case.batch_size, case.phase, touches, DTYPE_BYTES[case.dtype], case.optimizer),
        case.batch_size,
        len(spec.tables),
        INDEX_DTYPES[case.index_dtype],
    )
    return Given([bundle.prepare(batch) for batch in made], made[0], stats, work)


def _check(bundle: Any, first: Any, ready: Ready, seed: int, threads: int) -> tuple[Check, float | None]:
    """The result against its reference, and its rounding error. Raises WrongResultError."""
    from workloads import reference, rounding

    checked = reference.check(bundle, first, ready.step, same_kernels=ready.same_kernels)
    check = Check(max_error=checked.max_error, tolerance=checked.tolerance, what=checked.what)
    if not checked.ok:
        raise WrongResultError(f"{check.what}: largest error {check.max_error:.3g}, tolerance {check.tolerance:g}")
    return check, rounding.rounding_error(bundle, first, seed, threads)


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


def with_flags(measurement: Measurement, flags: tuple[str, ...]) -> Measurement:
    """The measurement with more flags."""
    return msgspec.structs.replace(measurement, flags=(*measurement.flags, *flags))


def require_settings(case: Case, found: Settings) -> Settings:
    """The settings as found. Raises InvariantError where they are not what the case says they are."""
    wrong = not_in_force(case, found)
    if wrong:
        raise InvariantError("; ".join(wrong))
    return found


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
        settings = require_settings(case, read_settings(case, torch.is_grad_enabled()))
        with watch.part("trace"):
            ready = Ready(step=lambda _: step(), annotated=SimpleNamespace())
            trace = trace_case(ready, [None], request, measurement)
    measurement = with_flags(measurement, trace_flags(trace, measurement.times_s))
    return Result(measurement=measurement, settings=settings, costs=watch.costs(), work=work, trace=trace)


def _measure(step: Step, inputs: Sequence[Any], request: Request, emit: Emit) -> Measurement:
    case = request.case
    on_cuda = case.device.startswith("cuda")
    clock: Clock = HostClock()
    between = flush_of(request)
    if on_cuda:
        import torch

        clock = CudaClock(torch.cuda)
        torch.cuda.reset_peak_memory_stats()
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
        # The flush's buffer is there all the while, and ours.
        peak = torch.cuda.max_memory_allocated() - (between.held_bytes if between else 0)
        measurement = msgspec.structs.replace(measurement, device_peak_bytes=peak)
    return measurement
