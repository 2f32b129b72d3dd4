"""On a CUDA device: agreement with float64, clocks against each other and Triton's, memory, telemetry, traces."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import pytest

torch = pytest.importorskip("torch")

from bench.records import Limits  # noqa: E402
from bench.running.clocks import CudaClock  # noqa: E402
from bench.running.environment import environment_of  # noqa: E402
from bench.running.measuring import measure  # noqa: E402
from bench.running.pool import Ending, Pool  # noqa: E402
from bench.running.request import Request, Result  # noqa: E402
from bench.sweep import failure  # noqa: E402
from bench.sweep_spec import make_case  # noqa: E402
from workloads import backends, executions, presets, reference, steps  # noqa: E402
from workloads.batch import make_batch  # noqa: E402
from workloads.executions import Want  # noqa: E402
from workloads.spec import SpecError, with_axis  # noqa: E402

pytestmark = pytest.mark.gpu

TINY = presets.load_preset("tiny").spec
PHASES = ("forward", "train_step")
GIB = 2**30


def built(backend: str, **settings: Any) -> Any:
    """A bundle on the GPU; what cannot be built is skipped with its reason."""
    spec = with_axis(TINY, "row_type", settings.pop("row_type", "float32"))
    try:
        return steps.build_model(spec, backend, device="cuda", **settings)
    except SpecError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("backend", backends.names())
def test_every_backend_and_dtype_agrees_with_float64(backend: str, dtype: str, phase: str) -> None:
    bundle = built(backend, dtype=dtype, phase=phase)
    found = reference.check(bundle, make_batch(TINY, 64, 0))
    assert found.ok, found


@pytest.mark.parametrize("optimizer", ["rowwise_adagrad", "adam"])
def test_fused_optimizers_agree_with_float64(optimizer: str) -> None:
    bundle = built("tbe", phase="train_step", optimizer=optimizer)
    for number in range(2):
        found = reference.check(bundle, make_batch(TINY, 64, 0, number))
        assert found.ok, found


@pytest.mark.parametrize("row_type", ["float32", "float16", "int8", "int4"])
def test_every_row_type_agrees_with_its_decoded_rows(row_type: str) -> None:
    bundle = built("tbe_int", row_type=row_type)
    found = reference.check(bundle, make_batch(bundle.spec, 64, 0))
    assert found.ok, found


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("placement", ["managed", "managed_caching", "host"])
@pytest.mark.parametrize("backend", ["tbe", "tbe_int", "bag"])
def test_every_placement_agrees_with_float64(backend: str, placement: str, phase: str) -> None:
    if placement != "host" and not os.environ.get("DLRM_BENCH_MANAGED"):
        pytest.skip("unified memory can hang a GPU that others share; set DLRM_BENCH_MANAGED=1 to try it")
    bundle = built(backend, phase=phase, placement=placement, cache_load_factor=0.5)
    for number in range(2):
        found = reference.check(bundle, make_batch(TINY, 64, 0, number))
        assert found.ok, found


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("backend", ["bag", "fused_bag", "tbe"])
@pytest.mark.parametrize("name", ["compile", "cuda_graph"])
def test_compiled_and_captured_steps_agree_with_float64_and_with_eager(
    name: str, backend: str, phase: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = executions.load(name).available(Want(device="cuda", phase=phase, backend=backend))
    if reason:
        pytest.skip(reason)
    for variable in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    bundle, plain = built(backend, phase=phase), built(backend, phase=phase)
    made = [make_batch(TINY, 64, 0, number) for number in range(3)]
    inputs = [bundle.prepare(batch) for batch in made]
    ready = executions.load(name).wrap(bundle, inputs, tmp_path)
    for batch in made:
        found = reference.check(bundle, batch, ready.step, same_kernels=ready.same_kernels)
        assert found.ok, found
    if phase == "forward":
        eager = steps.make_step(plain)
        for item in inputs:
            torch.testing.assert_close(ready.step(item), eager(item), rtol=1e-4, atol=1e-4)


def products(size: int, dtype: Any = torch.float32) -> Callable[[Any], object]:
    left, right = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
    out = torch.empty_like(left)
    return lambda _: torch.mm(left, right, out=out)


def test_events_and_the_wall_clock_agree_within_two_percent_on_long_steps() -> None:
    step, clock = products(8192), CudaClock(torch.cuda)
    clock.repeat(step, [None] * 3)
    repeats = [clock.repeat(step, [None] * 20) for _ in range(5)]
    event_s = median(r.event_s or 0.0 for r in repeats)
    assert event_s / 20 > 2e-3
    assert median(r.wall_s for r in repeats) == pytest.approx(event_s, rel=0.02)


def gathers() -> Callable[[Any], object]:
    table = torch.randn(8_000_000, 64, device="cuda")
    rows = torch.randint(0, 8_000_000, (4_000_000,), device="cuda")
    offsets = torch.arange(0, 4_000_000, 20, device="cuda")
    return lambda _: torch.nn.functional.embedding_bag(rows, table, offsets, mode="sum")


def copies() -> Callable[[Any], object]:
    source = torch.randn(256 << 20, device="cuda")
    target = torch.empty_like(source)
    return lambda _: target.copy_(source)


@pytest.mark.parametrize("make", [lambda: products(4096, torch.bfloat16), gathers, copies], ids=["mm", "bag", "copy"])
def test_the_harness_agrees_with_triton(make: Callable[[], Callable[[Any], object]]) -> None:
    """Each moves far more than the L2 cache, which do_bench empties and back-to-back steps do not."""
    testing = pytest.importorskip("triton.testing")
    step = make()
    theirs_s = testing.do_bench(lambda: step(None), warmup=100, rep=300, return_mode="median") * 1e-3
    ours = measure(step, [None], CudaClock(torch.cuda), Limits(budget_s=1.0), min_steps=20, latency_steps=50)
    assert median(ours.event_times_s) == pytest.approx(theirs_s, rel=0.1)
    assert len(ours.step_times_s) > 1
    assert median(ours.step_times_s) >= 0.95 * median(ours.event_times_s)


def test_ceilings_stand_to_each_other_as_they_must() -> None:
    from profiles.ceilings import measure as measure_ceilings

    found = measure_ceilings("cuda:0", budget_s=15.0)
    memory = found.stream_read.bytes_per_s or 0.0
    assert 0.5 * memory < (found.stream_copy.bytes_per_s or 0.0) < 1.5 * memory
    near = max(c.bytes_per_s or 0.0 for c in found.stream_read_curve)
    far = max(found.gather, key=lambda c: c.working_set_bytes or 0).working_set_bytes
    for gather in (g for g in found.gather if g.working_set_bytes == far):
        assert (gather.bytes_per_s or 0.0) < 1.3 * near
    rate = {name: gemm.flops_per_s or 0.0 for name, gemm in found.gemm.items()}
    assert rate["float32"] < rate["tf32"] < rate["bfloat16"]
    pinned, pageable = found.copy_host_to_device_pinned, found.copy_host_to_device_pageable
    assert pinned is not None
    assert pageable is not None
    assert (pinned.bytes_per_s or 0.0) > 0.8 * (pageable.bytes_per_s or 0.0)
    assert found.launch_latency is not None
    assert 2e-7 < (found.launch_latency.seconds or 0.0) < 1e-4


def run(pool: Pool, tmp_path: Path, **settings: Any) -> tuple[Ending, Result | None, str]:
    """One case in a worker, as a sweep runs it: how it ended, its result, its last phase."""
    case = make_case("tiny", None, {"device": "cuda", **settings})
    limits = Limits(budget_s=0.2, min_repeat_s=0.005, min_repeats=3)
    trace = str(tmp_path / f"{case.key()}.pt.trace.json.gz")
    request = Request(case=case, limits=limits, llc_bytes=60 << 20, trace_path=trace)
    events: dict[str, Any] = {"phase": {"phase": "start"}}
    # A case whose allocator is not the worker's own is refused as not measured.
    ending = pool.server(environment_of(case)).run(
        "bench.running.harness:run_case", request, lambda k, body: events.update({k: body}), 240
    )
    result = msgspec.convert(events["result"], Result) if "result" in events else None
    return ending, result, events["phase"]["phase"]


def test_out_of_memory_is_an_outcome_and_the_next_case_is_healthy(tmp_path: Path) -> None:
    with Pool() as pool:
        ending, result, phase = run(pool, tmp_path, num_rows=2**31, dim=128, num_tables=1)
        assert result is None
        assert (failure(ending, phase).status, failure(ending, phase).kind) == ("failed", "out_of_memory"), ending.log
        ending, result, _ = run(pool, tmp_path, batch_size=64)
        assert ending.kind == "ok", ending.log
        assert result is not None


@pytest.mark.parametrize("phase", PHASES)
def test_a_case_in_a_forked_worker_has_device_times_and_memory(phase: str, tmp_path: Path) -> None:
    rows = {"num_rows": 1_000_000, "dim": 64, "pooling_factor": 20, "batch_size": 2048, "backend": "fused_bag"}
    with Pool() as pool:
        ending, result, _ = run(pool, tmp_path, phase=phase, **rows)
    assert result is not None, ending.log
    found, trace = result.measurement, result.trace
    assert found.clock == "cuda_event"
    assert len(found.event_times_s) == len(found.times_s)
    assert all(e <= w * 1.02 for e, w in zip(found.event_times_s, found.times_s, strict=True))
    assert (found.device_peak_bytes or 0) > 4 * 1_000_000 * 64 * 4
    assert trace is not None
    assert trace.clock == "device"
    assert trace.coverage_frac > 0.8
    stages = trace.stages
    assert stages["embedding"].forward_s > 0
    assert (stages["embedding"].backward_s > 0) == (phase == "train_step")
    device_s = sum(s.forward_s + s.backward_s for s in stages.values())
    assert device_s <= 1.2 * median(found.event_times_s)
    assert 0 < (trace.device_busy_s or 0.0) <= 1.2 * median(found.event_times_s)


@pytest.mark.parametrize("mode", ["hot", "cold"])
def test_cache_modes_run_on_the_device(mode: str, tmp_path: Path) -> None:
    with Pool() as pool:
        ending, result, _ = run(pool, tmp_path, cache_mode=mode, batch_size=256)
    assert result is not None, ending.log
    assert (result.measurement.steps_per_repeat == 1) == (mode == "cold")


def test_tf32_is_set_read_back_and_within_its_tolerance(tmp_path: Path) -> None:
    with Pool() as pool:
        ending, result, _ = run(pool, tmp_path, tf32=True, batch_size=256)
        assert result is not None, ending.log
        assert result.settings.tf32
        ending, result, _ = run(pool, tmp_path, batch_size=256)
    assert result is not None, ending.log
    assert not result.settings.tf32


def test_telemetry_of_the_gpu_is_found_by_its_bus_id() -> None:
    from profiles.identify import identify
    from profiles.samplers.nvml import NvmlSampler

    machine = identify()
    pci = machine.pci("cuda")
    assert pci
    sampler = NvmlSampler(pci=pci)
    if reason := sampler.available():
        pytest.skip(reason)
    step = products(4096)
    for _ in range(50):
        step(None)
    values = sampler.read()
    torch.cuda.synchronize()
    assert {"gpu_utilisation_frac", "gpu_temperature_c", "gpu_memory_used_bytes", "gpu_sm_clock_hz"} <= set(values)
    assert values["gpu_memory_used_bytes"] > 0
    assert 0 <= values["gpu_utilisation_frac"] <= 1
