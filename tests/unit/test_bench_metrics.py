"""Every formula on a record whose numbers can be checked by hand."""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec
import pytest

from bench import invariants, metrics, roofs
from bench.records import Case, Channel, Outcome, Record, StageTime, TraceSummary
from profiles.machine import Ceiling
from tests import sample_records
from workloads.executions import Graphs
from workloads.spec import with_axis
from workloads.work import StageWork, Work

MACHINE = sample_records.machine(
    ceilings={
        "cpu": msgspec.structs.replace(
            sample_records.ceilings(),
            stream_read=sample_records.rate("sum", 20.0),
            stream_read_curve=(),
            gather=(sample_records.rate("index", 10.0, row_bytes=256, working_set_bytes=2**30),),
            gemm={"float32": Ceiling(kernel="mm", source="measured", spread_frac=0.0, flops_per_s=100e9)},
        )
    }
)
# Embedding: 40 MB over 10 GB/s = 4 ms (0.02 GFLOP are 0.2 ms). MLP: 0.2 GFLOP over 100 GFLOP/s = 2 ms (1 MB: 0.05 ms).
WORK = Work(
    samples=1000,
    lookups=200_000.0,
    row_bytes=256.0,
    stages={
        "embedding": StageWork(
            flops=20_000_000,
            bytes_logical=51_200_000,
            bytes_algorithmic=55_000_000,
            bytes_compulsory=40_000_000,
            working_set_bytes=2**30,
        ),
        "top_mlp": StageWork(flops=200_000_000, bytes_compulsory=1_000_000, working_set_bytes=2**20),
    },
)
TRACE = TraceSummary(
    path="traces/a.pt.trace.json.gz",
    steps=3,
    step_s=0.012,
    overhead_ratio=1.2,
    stages={
        "embedding": StageTime(forward_s=0.006, backward_s=0.0, share_frac=0.5),
        "top_mlp": StageTime(forward_s=0.003, backward_s=0.0015, share_frac=0.375),
    },
    coverage_frac=0.875,
)


def record(**changes: Any) -> Record:
    """Five repeats of 10 steps around 10 ms."""
    case = Case(model=sample_records.model(1000, 64), batch_size=1000)
    found = sample_records.measurement(0.01, random.Random(0))
    found = msgspec.structs.replace(
        found,
        times_s=(0.010, 0.009, 0.012, 0.010, 0.011),
        started_s=(0.0, 0.1, 0.2, 0.3, 0.4),
        step_times_s=tuple(i / 1000 for i in range(1, 102)),
        steps_per_repeat=10,
        minor_faults=100,
        involuntary_switches=26,
        peak_rss_bytes=2**30,
        first_call_s=0.5,
    )
    made = Record(
        schema_version=1,
        key=case.key(),
        case=case,
        outcome=Outcome(status="ok"),
        machine="m",
        started_at="2026-01-05T10:00:00+00:00",
        measurement=found,
        work=WORK,
        trace=TRACE,
    )
    return msgspec.structs.replace(made, **changes)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("step_s_p50", 0.010),
        ("step_s_ci95", (0.009, 0.012)),
        ("step_s_min", 0.009),
        ("step_latency_s_p50", 0.051),
        ("step_latency_s_p90", 0.091),
        ("step_latency_s_p99", 0.100),
        ("samples_per_s", 100_000),
        ("lookups_per_s", 20e6),
        ("logical_bytes_per_s", 5.12e9),
        ("algorithmic_bytes_per_s", 5.5e9),
        ("compulsory_bytes_per_s", 4e9),
        ("embedding_logical_bytes_per_s", 10.24e9),
        ("embedding_compulsory_bytes_per_s", 8e9),
        ("flops_per_s", 22e9),
        ("arithmetic_intensity", 220 / 41),
        ("roof_step_s", 0.006),
        ("fraction_of_roof", 0.6),
        ("embedding_fraction_of_roof", 0.8),
        ("peak_rss_bytes", 2**30),
        ("device_peak_bytes", None),
        ("minor_faults_per_step", 2.0),
        ("involuntary_switches_per_s", 50.0),
        ("table_bytes", 8 * 1000 * 64 * 4),
        ("unique_frac", None),
        ("first_call_s", 0.5),
        ("profiler_overhead_ratio", 1.2),
        ("spread_frac", 0.1),
        ("num_repeats", 5),
        ("energy_j_per_step", None),
        ("samples_per_j", None),
        ("gpu_utilisation_frac", None),
    ],
)
def test_formula(name: str, expected: Any) -> None:
    found = metrics.compute(record(), MACHINE)[name]
    assert found == (pytest.approx(expected) if expected is not None else None)


def test_stages_scale_the_trace_to_the_timed_step() -> None:
    found = metrics.stages(record(), MACHINE)
    assert list(found) == ["embedding", "top_mlp"]
    mlp = found["top_mlp"]
    assert mlp["forward_s"] == pytest.approx(0.0025)
    assert mlp["backward_s"] == pytest.approx(0.00125)
    assert mlp["share_frac"] == 0.375
    assert mlp["fraction_of_roof"] == pytest.approx(0.002 / 0.00375)
    assert (found["embedding"]["bound"], mlp["bound"]) == ("gather", "compute")


def test_nothing_is_made_up_where_nothing_was_measured() -> None:
    bare = record(measurement=None, work=None, trace=None, outcome=Outcome(status="skipped", reason="no fbgemm"))
    found = metrics.compute(bare, MACHINE)
    assert {k for k, v in found.items() if v is not None} == {"table_bytes"}
    assert metrics.stages(bare, MACHINE) == {}
    assert invariants.violations(bare, MACHINE) == []


def test_without_ceilings_or_trace_only_their_metrics_are_missing() -> None:
    found = metrics.compute(record(trace=None), sample_records.machine(ceilings={}))
    assert found["fraction_of_roof"] is None
    assert found["embedding_compulsory_bytes_per_s"] is None
    assert found["compulsory_bytes_per_s"] == pytest.approx(4e9)


def test_energy_from_power_within_the_repeats_only() -> None:
    channel = Channel(
        name="gpu_power_w", source="nvml", times_s=(-1.0, 0.1, 0.3, 9.0), values=(50.0, 200.0, 300.0, 50.0)
    )
    found = metrics.compute(record(telemetry=(channel,)), MACHINE)
    assert found["energy_j_per_step"] == pytest.approx(2.5)
    assert found["samples_per_j"] == pytest.approx(400)


def test_energy_counters_come_before_power() -> None:
    power = Channel(name="gpu_power_w", source="nvml", times_s=(0.1,), values=(999.0,))
    counter = Channel(name="gpu_energy_j", source="nvml", times_s=(-2.0, 0.0, 0.4), values=(990.0, 1000.0, 1040.0))
    found = metrics.compute(record(telemetry=(power, counter)), MACHINE)
    assert found["energy_j_per_step"] == pytest.approx(1.0)


def test_a_device_without_a_counter_adds_its_power_to_the_counters_of_others() -> None:
    """100 W that RAPL counted and 250 W that NVML read, over a step of 10 ms; a counter that stands still is none."""
    cpu = Channel(name="energy_j", source="rapl", times_s=(0.0, 0.4), values=(0.0, 40.0))
    power = Channel(name="gpu_power_w", source="nvml", times_s=(0.1, 0.3), values=(200.0, 300.0))
    still = Channel(name="gpu_energy_j", source="nvml", times_s=(0.0, 0.4), values=(7.0, 7.0))
    for telemetry in ((cpu, power), (cpu, power, still)):
        found = metrics.compute(record(telemetry=telemetry), MACHINE)
        assert found["energy_j_per_step"] == pytest.approx(3.5)


@pytest.mark.parametrize(("device", "row_bytes"), [("cpu", 68), ("cuda", 80)])
def test_tables_are_as_large_as_they_are_stored(device: str, row_bytes: int) -> None:
    made = record()
    assert made.case.model is not None
    model = with_axis(made.case.model, "row_type", "int8")
    case = msgspec.structs.replace(made.case, model=model, backend="tbe_int", device=device)
    assert metrics.value(msgspec.structs.replace(made, case=case), MACHINE, "table_bytes") == 8 * 1000 * row_bytes


def test_gpu_utilisation_is_the_mean_over_the_repeats() -> None:
    channel = Channel(name="gpu_utilisation_frac", source="nvml", times_s=(0.0, 0.2, 0.4), values=(0.5, 0.7, 0.9))
    memory = Channel(name="gpu_memory_utilisation_frac", source="nvml", times_s=(0.0,), values=(0.1,))
    found = metrics.compute(record(telemetry=(channel, memory)), MACHINE)
    assert found["gpu_utilisation_frac"] == pytest.approx(0.7)


def with_times(*times_s: float) -> Record:
    made = record()
    return msgspec.structs.replace(made, measurement=msgspec.structs.replace(made.measurement, times_s=times_s))


def test_a_sound_record_breaks_nothing() -> None:
    assert invariants.violations(record(), MACHINE) == []
    assert invariants.violations(with_times(0.0056, 0.0056), MACHINE) == []


def test_faster_than_the_roof_is_a_violation() -> None:
    (text,) = invariants.violations(with_times(0.003, 0.003), MACHINE)
    assert "2.00 times as fast as the measured ceilings allow" in text
    assert text.endswith("the ceilings are stale (dlrm-bench machine --refresh)")


def test_a_train_step_whose_rows_stay_in_a_cache_is_no_violation() -> None:
    """Without the 20 MB kept the embedding takes 2 ms and the step 4 ms: 3.7 ms are within a tenth, 3 ms are not."""
    embedding = msgspec.structs.replace(WORK.stages["embedding"], bytes_kept=20_000_000)
    work = msgspec.structs.replace(WORK, stages=WORK.stages | {"embedding": embedding})
    near, far = (msgspec.structs.replace(with_times(t, t), work=work) for t in (0.0037, 0.003))
    assert roofs.bound_step_s(near, MACHINE) == pytest.approx(0.004)
    assert metrics.value(near, MACHINE, "roof_step_s") == pytest.approx(0.006)
    assert invariants.violations(near, MACHINE) == []
    (text,) = invariants.violations(far, MACHINE)
    assert "1.33 times as fast" in text
    assert len(invariants.violations(with_times(0.0037, 0.0037), MACHINE)) == 1


def test_ceilings_measured_beside_other_load_are_told_as_the_reason() -> None:
    ceilings = {d: msgspec.structs.replace(c, other_load_frac=0.46) for d, c in MACHINE.ceilings.items()}
    (text,) = invariants.violations(with_times(0.003, 0.003), msgspec.structs.replace(MACHINE, ceilings=ceilings))
    assert "others took 46% of the CPU time while they were measured" in text


@pytest.mark.parametrize("times_s", [(), (0.01, 0.0), (math.nan,), (-0.01,)])
def test_impossible_times_are_violations(times_s: tuple[float, ...]) -> None:
    assert len(invariants.violations(with_times(*times_s), MACHINE)) == 1


def test_rows_are_plain_json() -> None:
    found = metrics.rows(sample_records.records(), sample_records.machine())
    again = msgspec.json.decode(msgspec.json.encode(found))
    assert [r["key"] for r in again] == [r.key for r in sample_records.records()]
    assert set(again[0]) == {"key", "case", "outcome", "metrics", "stages", "inputs"}
    assert [r["outcome"]["status"] for r in again[-2:]] == ["skipped", "failed"]


def test_names_are_unique_and_described() -> None:
    assert len(metrics.BY_NAME) == len(metrics.METRICS)
    assert all(m.description for m in metrics.METRICS)


def test_device_times_of_a_trace_are_not_scaled_by_what_profiling_costs_the_host() -> None:
    """Host: 6 ms of a 12 ms profiled step is half of the 10 ms timed one. Device: 6 ms of kernels are 6 ms."""
    on_device = msgspec.structs.replace(
        TRACE, clock="device", stages={"embedding": StageTime(forward_s=0.006, backward_s=0.0, share_frac=0.6)}
    )
    for trace, expected_s in ((TRACE, 0.005), (on_device, 0.006)):
        found = record(trace=trace)
        assert metrics.stage_step_s(found, "embedding") == pytest.approx(expected_s)
        stages = metrics.stages(found, sample_records.machine())
        assert stages["embedding"]["forward_s"] == pytest.approx(expected_s)


def test_what_was_compiled_is_counted() -> None:
    eager, machine = record(), sample_records.machine()
    assert [metrics.value(eager, machine, n) for n in ("compile_s", "graphs", "graph_breaks")] == [None, None, None]
    assert eager.measurement is not None
    compiled = record(
        measurement=msgspec.structs.replace(eager.measurement, compile_s=12.5),
        graphs=Graphs(graphs=3, breaks=2, recompiles=1),
    )
    names = ("compile_s", "graphs", "graph_breaks", "recompiles")
    assert [metrics.value(compiled, machine, n) for n in names] == [12.5, 3.0, 2.0, 1.0]
    assert metrics.BY_NAME["compile_s"].better == "lower"


@pytest.mark.parametrize(("row_bytes", "rate"), [(16, 8e9), (4, 8e9), (32, 4e9), (64, 2e9), (96, 2e9 * 128 / 96)])
def test_the_gather_roof_counts_whole_lines_as_compulsory_bytes_do(row_bytes: float, rate: float) -> None:
    """Measured: 2 GB/s of rows for rows of 16 to 128 bytes. One of 16 bytes takes a line of 64, one of 96 takes two."""
    curve = tuple(sample_records.rate("index", 2.0, row_bytes=w, working_set_bytes=2**30) for w in (16, 32, 64, 128))
    ceilings = msgspec.structs.replace(sample_records.ceilings(), gather=curve)
    narrow = record(work=msgspec.structs.replace(WORK, row_bytes=row_bytes))
    found = roofs.gather_roof_bytes_per_s(narrow, sample_records.machine(ceilings={"cpu": ceilings}))
    assert found == pytest.approx(rate)
