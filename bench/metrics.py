"""The metric table: name, unit, better, formula(record, machine). Formulas over raw times; nothing is stored.

Byte rates divide the embedding stage's bytes of a step (docs/method/work.md) by the time of the whole step, so a
model's other stages lower them; `embedding_*` divide by the embedding stage's own time, where a trace gave it. The
stages are those of a pass of its own: a stage's time is its share of that pass's step times the timed step's median,
where the two are alike (bench/stage_doubts.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import Any, Literal, NamedTuple

import msgspec

from bench import stats
from bench.by_identity import by_identity
from bench.records import Channel, Measurement, Record
from bench.roofs import StageRoof, roof_step_s, stage_roofs
from bench.stage_doubts import beats_roof, unlike
from profiles.machine import Machine
from workloads.placements import as_stored

Value = float | tuple[float, float] | None
Formula = Callable[[Record, Machine], Value]


class Metric(NamedTuple):
    """One entry of the table. `better` is higher, lower or none (a fact, not a goal); unit '' is a plain number."""

    name: str
    unit: str
    better: Literal["higher", "lower", "none"]
    formula: Formula
    description: str


# Times


def _measured(formula: Callable[[Measurement], Value]) -> Formula:
    """A formula over the measurement alone; None where nothing was measured."""

    def of_record(record: Record, machine: Machine) -> Value:
        return formula(record.measurement) if record.measurement and record.measurement.times_s else None

    return of_record


@by_identity
def step_s(record: Record) -> float | None:
    """Median over repeats of the mean step time, in seconds."""
    found = record.measurement
    return median(found.times_s) if found and found.times_s else None


def _latency(fraction: float) -> Formula:
    return _measured(lambda m: stats.quantile(m.step_times_s, fraction) if m.step_times_s else None)


def _per_second(amount: Callable[[Record], float | None]) -> Formula:
    """An amount per step, over the step time."""

    def of_record(record: Record, machine: Machine) -> Value:
        count, seconds = amount(record), step_s(record)
        return None if count is None or not seconds else count / seconds

    return of_record


def _steps_timed(measurement: Measurement) -> int:
    return measurement.steps_per_repeat * len(measurement.times_s)


def _timed_s(measurement: Measurement) -> float:
    return measurement.steps_per_repeat * math.fsum(measurement.times_s)


# Work


def _samples(record: Record) -> float | None:
    return record.work.samples if record.work else None


def _lookups(record: Record) -> float | None:
    return record.work.lookups if record.work else None


def _flops(record: Record) -> float | None:
    return record.work.total("flops") if record.work else None


def _embedding(field: str) -> Callable[[Record], float | None]:
    """One byte count of the embedding stage."""

    def of_record(record: Record) -> float | None:
        stage = record.work.stages.get("embedding") if record.work else None
        return getattr(stage, field) if stage else None

    return of_record


def _intensity(record: Record, machine: Machine) -> Value:
    moved = record.work.total("bytes_compulsory") if record.work else 0
    return record.work.total("flops") / moved if record.work and moved else None


def stage_step_s(record: Record, stage: str) -> float | None:
    """Seconds of one stage within the timed step: its share of the step it was seen in times the median step.

    None where that step was unlike the timed one.
    """
    found, seconds = record.trace.stages.get(stage) if record.trace else None, step_s(record)
    if unlike(record):
        return None
    return found.share_frac * seconds if found and seconds else None


def _embedding_rate(field: str) -> Formula:
    def of_record(record: Record, machine: Machine) -> Value:
        moved, seconds = _embedding(field)(record), stage_step_s(record, "embedding")
        if stages(record, machine).get("embedding", {}).get("doubt"):
            return None
        return moved / seconds if moved is not None and seconds else None

    return of_record


# Roofs (bench/roofs.py)


def _fraction_of_roof(record: Record, machine: Machine) -> Value:
    least, seconds = roof_step_s(record, machine), step_s(record)
    return least / seconds if least and seconds else None


def _embedding_fraction_of_roof(record: Record, machine: Machine) -> Value:
    found = stages(record, machine).get("embedding", {})
    fraction: float | None = found.get("fraction_of_roof")
    return fraction


# Memory, inputs, telemetry


def table_bytes(record: Record) -> int | None:
    """Bytes of all tables as the case's backend stores them; None for a user's own step."""
    case = record.case
    return as_stored(case.model, case.backend, case.device, case.placement).table_bytes if case.model else None


def _of_inputs(field: str) -> Formula:
    return lambda record, machine: getattr(record.inputs, field) if record.inputs else None


def _of_graphs(field: str) -> Formula:
    """One count of what was compiled; None for eager."""
    return lambda record, machine: float(getattr(record.graphs, field)) if record.graphs else None


def during_repeats(record: Record, channel: Channel) -> list[tuple[float, float]]:
    """(time in s, value) of a channel between the start of the first repeat and the end of the last."""
    found = record.measurement
    if found is None or not found.started_s or not found.times_s:
        return []
    end = found.started_s[-1] + found.times_s[-1] * found.steps_per_repeat
    pairs = zip(channel.times_s, channel.values, strict=False)
    return [(t, v) for t, v in pairs if 0 <= t <= end and math.isfinite(v)]


def _channels(record: Record, *words: str, suffix: str) -> list[Channel]:
    return [c for c in record.telemetry if c.name.endswith(suffix) and any(w in c.name for w in words)]


def _energy_j_per_step(record: Record, machine: Machine) -> Value:
    """Watts of all sources that report (RAPL the CPUs, NVML the GPU) times the step."""
    seconds = step_s(record)
    sources = dict.fromkeys(c.source for c in record.telemetry)
    found = [watts for source in sources if (watts := _watts(record, source)) is not None]
    return math.fsum(found) * seconds if seconds and found else None


def _watts(record: Record, source: str) -> float | None:
    """Of one source: from its energy counters where these count, else its mean power."""
    counters = [c for c in _channels(record, "energy", suffix="_j") if c.source == source]
    counted = [watts for c in counters if (watts := _counter_per_s(record, c)) is not None]
    if counted:
        return math.fsum(counted)
    powers = [during_repeats(record, c) for c in _channels(record, "power", suffix="_w") if c.source == source]
    means = [fmean(v for _, v in values) for values in powers if values]
    return math.fsum(means) if means else None


def _counter_per_s(record: Record, channel: Channel) -> float | None:
    """Mean growth of a counter per second (watts, of joules), first to last reading during the repeats."""
    readings = during_repeats(record, channel)
    if len(readings) < 2:
        return None
    (started, first), (ended, last) = readings[0], readings[-1]
    return (last - first) / (ended - started) if last > first and ended > started else None


TRAFFIC_CHANNELS = ("memory_read_bytes", "memory_write_bytes")


def _traffic_bytes_per_s(record: Record, machine: Machine) -> Value:
    """Bytes that the memory controllers read and wrote per second of the repeats; None without their counters."""
    counted = [c for c in record.telemetry if c.name in TRAFFIC_CHANNELS]
    found = [per_s for c in counted if (per_s := _counter_per_s(record, c)) is not None]
    return math.fsum(found) if found else None


def _traffic_over_compulsory(record: Record, machine: Machine) -> Value:
    """Counted over modelled bytes of a step, all stages."""
    rate, seconds = _traffic_bytes_per_s(record, machine), step_s(record)
    modelled = record.work.total("bytes_compulsory") if record.work else 0
    return rate * seconds / modelled if isinstance(rate, float) and seconds and modelled else None


def _samples_per_j(record: Record, machine: Machine) -> Value:
    energy, samples = _energy_j_per_step(record, machine), _samples(record)
    return samples / energy if isinstance(energy, float) and energy > 0 and samples else None


def _gpu_utilisation(record: Record, machine: Machine) -> Value:
    found = [c for c in _channels(record, "gpu", suffix="_frac") if "util" in c.name and "mem" not in c.name]
    values = [v for c in found for _, v in during_repeats(record, c)]
    return fmean(values) if values else None


def _cpus_used(record: Record, machine: Machine) -> Value:
    values = [v for c in record.telemetry if c.name == "cpu_frac" for _, v in during_repeats(record, c)]
    return fmean(values) if values else None


METRICS: tuple[Metric, ...] = (
    Metric("step_s_p50", "s", "lower", lambda r, m: step_s(r), "median over repeats of the mean step time"),
    Metric(
        "step_s_ci95",
        "s",
        "none",
        _measured(lambda m: stats.median_interval(m.times_s)),
        "95 % interval of step_s_p50 by order statistics, widened for autocorrelation",
    ),
    Metric("step_s_min", "s", "lower", _measured(lambda m: min(m.times_s)), "fastest repeat's mean step time"),
    Metric("step_latency_s_p50", "s", "lower", _latency(0.5), "median of single steps"),
    Metric("step_latency_s_p90", "s", "lower", _latency(0.9), "90th percentile of single steps"),
    Metric("step_latency_s_p99", "s", "lower", _latency(0.99), "99th percentile of single steps"),
    Metric(
        "latency_steps",
        "",
        "none",
        _measured(lambda m: float(len(m.step_times_s))),
        "single steps that the latency percentiles come from",
    ),
    Metric("samples_per_s", "samples/s", "higher", _per_second(_samples), "rows of the batch per second of step time"),
    Metric("lookups_per_s", "lookups/s", "higher", _per_second(_lookups), "embedding rows looked up per second"),
    Metric(
        "logical_bytes_per_s",
        "B/s",
        "higher",
        _per_second(_embedding("bytes_logical")),
        "embedding rows looked up, in bytes, over the whole step",
    ),
    Metric(
        "algorithmic_bytes_per_s",
        "B/s",
        "higher",
        _per_second(_embedding("bytes_algorithmic")),
        "rows, indices, offsets and outputs of the embedding over the whole step",
    ),
    Metric(
        "compulsory_bytes_per_s",
        "B/s",
        "higher",
        _per_second(_embedding("bytes_compulsory")),
        "distinct rows in whole cache lines, indices, offsets and outputs of the embedding over the whole step",
    ),
    Metric(
        "embedding_logical_bytes_per_s",
        "B/s",
        "higher",
        _embedding_rate("bytes_logical"),
        "embedding rows looked up over the embedding stage's own time",
    ),
    Metric(
        "embedding_compulsory_bytes_per_s",
        "B/s",
        "higher",
        _embedding_rate("bytes_compulsory"),
        "compulsory embedding bytes over the embedding stage's own time",
    ),
    Metric("flops_per_s", "FLOP/s", "higher", _per_second(_flops), "FLOPs computed in all stages per second"),
    Metric("arithmetic_intensity", "FLOP/B", "none", _intensity, "FLOPs over compulsory bytes of all stages"),
    Metric(
        "roof_step_s",
        "s",
        "none",
        roof_step_s,
        "least time, each pass by itself: sum over stages of max(compulsory bytes / roof, FLOPs / GEMM peak)",
    ),
    Metric("fraction_of_roof", "fraction", "higher", _fraction_of_roof, "roof_step_s over step_s_p50"),
    Metric(
        "embedding_fraction_of_roof",
        "fraction",
        "higher",
        _embedding_fraction_of_roof,
        "least time of the embedding stage on the measured gather ceiling over its own time",
    ),
    Metric(
        "fixed_s",
        "s",
        "lower",
        lambda r, m: r.costs.fixed_s if r.costs else None,
        "wall time of the case beyond building tables and inputs, checking, measuring and tracing",
    ),
    Metric(
        "peak_rss_bytes",
        "B",
        "lower",
        lambda r, m: (r.measurement.peak_rss_bytes or None) if r.measurement else None,
        "most resident memory of the case's process",
    ),
    Metric(
        "device_peak_bytes",
        "B",
        "lower",
        lambda r, m: r.measurement.device_peak_bytes if r.measurement else None,
        "most device memory allocated",
    ),
    Metric(
        "minor_faults_per_step",
        "faults",
        "lower",
        _measured(lambda m: m.minor_faults / _steps_timed(m)),
        "minor page faults per timed step",
    ),
    Metric(
        "kernel_time_frac",
        "fraction",
        "lower",
        _measured(lambda m: m.system_s / (m.user_s + m.system_s) if m.user_s + m.system_s > 0 else None),
        "share of the process's CPU time during the repeats that the kernel spent for it; page faults, mostly",
    ),
    Metric(
        "involuntary_switches_per_s",
        "switches/s",
        "lower",
        _measured(lambda m: m.involuntary_switches / _timed_s(m)),
        "involuntary context switches per second of timed steps",
    ),
    Metric("cpus_used", "CPUs", "none", _cpus_used, "CPUs that the case's process kept busy while it was timed"),
    Metric("table_bytes", "B", "none", lambda r, m: table_bytes(r), "all tables as stored"),
    Metric("unique_frac", "fraction", "none", _of_inputs("unique_frac"), "distinct rows over lookups of one batch"),
    Metric(
        "rotation_unique_bytes",
        "B",
        "none",
        _of_inputs("rotation_unique_bytes"),
        "distinct rows over all rotated batches, in bytes",
    ),
    Metric(
        "index_ks",
        "",
        "none",
        _of_inputs("index_ks"),
        "Kolmogorov-Smirnov distance of the indices from the asked law; about 1/sqrt(n) where n of them follow",
    ),
    Metric("length_ks", "", "none", _of_inputs("length_ks"), "the same of the bags' lengths"),
    Metric(
        "first_call_s",
        "s",
        "lower",
        _measured(lambda m: m.first_call_s),
        "first step, before any warm-up; compiling included where it is compiled",
    ),
    Metric(
        "compile_s",
        "s",
        "lower",
        _measured(lambda m: m.compile_s),
        "calls that compiled something, with a cold cache, or warm-up and capture of a CUDA graph",
    ),
    Metric("graphs", "", "none", _of_graphs("graphs"), "graphs that the model was compiled or captured into"),
    Metric("graph_breaks", "", "lower", _of_graphs("breaks"), "places where torch.compile went back to Python"),
    Metric("recompiles", "", "lower", _of_graphs("recompiles"), "functions compiled again for other inputs"),
    Metric(
        "profiler_overhead_ratio",
        "ratio",
        "none",
        lambda r, m: r.trace.overhead_ratio if r.trace else None,
        "profiled step over timed step; the profiler never runs in a timed step",
    ),
    Metric("spread_frac", "fraction", "lower", _measured(lambda m: stats.spread_frac(m.times_s)), "IQR over median"),
    Metric("num_repeats", "", "none", _measured(lambda m: float(len(m.times_s))), "repeats measured"),
    Metric(
        "energy_j_per_step",
        "J",
        "lower",
        _energy_j_per_step,
        "energy counters, else mean power, times the step; all devices that report",
    ),
    Metric(
        "memory_traffic_bytes_per_s",
        "B/s",
        "none",
        _traffic_bytes_per_s,
        "read and written by the memory controllers, counted by hardware, of the whole machine",
    ),
    Metric(
        "traffic_over_compulsory",
        "ratio",
        "none",
        _traffic_over_compulsory,
        "bytes counted by hardware over the compulsory bytes modelled",
    ),
    Metric("samples_per_j", "samples/J", "higher", _samples_per_j, "samples per joule"),
    Metric(
        "gpu_utilisation_frac", "fraction", "none", _gpu_utilisation, "mean time a kernel was running, as NVML says"
    ),
)
BY_NAME = {metric.name: metric for metric in METRICS}

MODELLED = frozenset(
    {
        "logical_bytes_per_s",
        "algorithmic_bytes_per_s",
        "compulsory_bytes_per_s",
        "embedding_logical_bytes_per_s",
        "embedding_compulsory_bytes_per_s",
        "flops_per_s",
        "arithmetic_intensity",
        "roof_step_s",
        "fraction_of_roof",
        "embedding_fraction_of_roof",
        "traffic_over_compulsory",
    }
)
"""Metrics that hold counted bytes or FLOPs (docs/method/work.md); every other one is measured or a fact of the case."""


def basis(name: str) -> Literal["measured", "modelled"]:
    """Whether a metric rests on measurement alone or on a model of the work too."""
    return "modelled" if name in MODELLED else "measured"


def value(record: Record, machine: Machine, name: str) -> float | None:
    """One plain metric of a record; None where it was not measurable, not finite, or the case did not run well."""
    found = BY_NAME[name].formula(record, machine)
    return found if isinstance(found, (int, float)) and math.isfinite(found) else None


def compute(record: Record, machine: Machine) -> dict[str, Value]:
    """Every metric by name; None where not measurable."""
    return {metric.name: metric.formula(record, machine) for metric in METRICS}


@by_identity
def stages(record: Record, machine: Machine) -> dict[str, dict[str, Any]]:
    """Per stage of the work: its time in the timed step, its work, and how it stands to its roof.

    share_frac, forward_s, backward_s come from the trace (None without one); flops, bytes_compulsory, roof_s and bound
    (gather, stream or compute: the ceiling that sets roof_s) are modelled; fraction_of_roof = roof_s / stage time, None
    where that cannot be right, with the reason in `doubt`.
    """
    roofs = stage_roofs(record, machine)
    names = list(record.work.stages) if record.work else []
    names += [n for n in (record.trace.stages if record.trace else ()) if n not in names]
    return {name: _stage(record, name, roofs.get(name)) for name in names}


def _stage(record: Record, name: str, roof: StageRoof | None) -> dict[str, Any]:
    work = record.work.stages.get(name) if record.work else None
    found = record.trace.stages.get(name) if record.trace else None
    seconds, scale = stage_step_s(record, name), _trace_scale(record)
    fraction = roof.seconds / seconds if roof and seconds else None
    broken = beats_roof(fraction)
    return {
        "share_frac": found.share_frac if found else None,
        "forward_s": found.forward_s * scale if found and scale else None,
        "backward_s": found.backward_s * scale if found and scale else None,
        "flops": work.flops if work else None,
        "bytes_compulsory": work.bytes_compulsory if work else None,
        "roof_s": roof.seconds if roof else None,
        "fraction_of_roof": None if broken else fraction,
        "bound": roof.bound if roof else None,
        "doubt": (unlike(record) if found else None) or broken,
    }


def _trace_scale(record: Record) -> float | None:
    """Timed step over profiled step; 1 for device times, which the profiler does not stretch; None where unlike."""
    seconds = None if unlike(record) else step_s(record)
    if record.trace and record.trace.clock == "device":
        return 1.0
    return seconds / record.trace.stages_step_s if record.trace and record.trace.stages_step_s > 0 and seconds else None


def rows(records: Sequence[Record], machine: Machine) -> list[dict[str, Any]]:
    """Per record {key, case, outcome, metrics, stages, inputs} as plain JSON types."""
    return [
        {
            "key": record.key,
            "case": msgspec.to_builtins(record.case),
            "outcome": msgspec.to_builtins(record.outcome),
            "metrics": compute(record, machine),
            "stages": stages(record, machine),
            "inputs": msgspec.to_builtins(record.inputs),
        }
        for record in records
    ]
