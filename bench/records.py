"""Case, Measurement, Outcome, Record: what is asked, what was measured, how it ended. Plain frozen data.

A Record keeps raw times; every statistic is a formula over it (bench/metrics.py). Base units, the unit in the name.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec

from bench.study.spec import Quality
from profiles.machine import Machine
from workloads.click_log import ClickLogSpec
from workloads.executions import Graphs
from workloads.spec import ModelSpec
from workloads.work import Work

SCHEMA_VERSION = 2
TRIAL_SCHEMA_VERSION = 2
"""Raised with a lift in bench/schemas.py and a stored example of the old one. 2: lines carry a checksum."""

Phase = Literal["forward", "train_step"]
CacheMode = Literal["rotated", "hot", "cold"]
Execution = Literal["eager", "compile", "cuda_graph"]
Placement = Literal["device", "managed", "managed_caching", "host"]
Dtype = Literal["float32", "bfloat16", "float16"]
Allocator = Literal["pinned", "default", "jemalloc", "tcmalloc"]
KEEPS_MEMORY = ("pinned", "jemalloc", "tcmalloc")
"""Allocators that keep what is freed, instead of having the kernel map it anew."""
MatmulPrecision = Literal["highest", "high", "medium"]
IndexDtype = Literal["int64", "int32"]
BoundsCheck = Literal["none", "ignore", "warning", "fatal"]
WaitPolicy = Literal["default", "passive", "active"]


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, weakref=True):
    """One point of a sweep: a model, or a user's own step (`code`, as path.py:function), and how it is run.

    `num_threads` 0 is every CPU the process may use, within its quota (those of `affinity`, a list such as '0,2-3',
    where that is not empty); `interop_threads` 0 is torch's own choice. `allocator`, `huge_pages` and `wait_policy`
    (what OpenMP threads do between parallel regions) need their own environment and so their own fork server.
    `optimizer` counts only in a train step.
    """

    model: ModelSpec | None = None
    code: str | None = None
    batch_size: int = 1
    backend: str = "bag"
    device: str = "cpu"
    dtype: Dtype = "float32"
    phase: Phase = "forward"
    execution: Execution = "eager"
    optimizer: str = "sgd"
    num_threads: int = 0
    cache_mode: CacheMode = "rotated"
    allocator: Allocator = "pinned"
    huge_pages: bool = True
    seed: int = 0
    placement: Placement = "device"
    cache_load_factor: float = 0.2
    tf32: bool = False
    affinity: str = ""
    interop_threads: int = 0
    wait_policy: WaitPolicy = "default"
    flush_denormal: bool = False
    matmul_precision: MatmulPrecision = "highest"
    index_dtype: IndexDtype = "int64"
    bounds_check: BoundsCheck = "none"
    inference_mode: bool = False

    def key(self) -> str:
        """Identity of the case: readable words and a hash of every field."""
        digest = hashlib.sha256(msgspec.json.encode(self._identity())).hexdigest()[:8]
        if self.model is None:
            return f"{(self.code or 'code').rpartition(':')[2]}-{digest}"
        phase = "train" if self.phase == "train_step" else "fwd"
        return f"{self.model.name}-{_shape(self.model)}-{self.backend}-{phase}-b{self.batch_size}-{digest}"

    def _identity(self) -> dict[str, Any]:
        """Every field; those that came later only where they say something, so that older keys stay what they were."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        defaults = msgspec.to_builtins(Case())
        told = {name: value for name, value in plain.items() if name not in LATER or value != defaults[name]}
        return told if told["model"] is None else told | {"model": _model_identity(told["model"])}


LATER = (
    "placement",
    "cache_load_factor",
    "tf32",
    "affinity",
    "interop_threads",
    "wait_policy",
    "flush_denormal",
    "matmul_precision",
    "index_dtype",
    "bounds_check",
    "inference_mode",
)


def _model_identity(model: dict[str, Any]) -> dict[str, Any]:
    """A replayed file counts by its content, wherever it lies; cases without one keep the keys they always had."""
    dropped = ("replay",) if model["captured"] else ("replay", "remap", "captured")
    return {field: value for field, value in model.items() if field not in dropped}


def _shape(model: ModelSpec) -> str:
    """The tables in a few characters: 8x1Mx64, or 26 tables of several sizes as 26t."""
    shapes = {(t.num_rows, t.dim) for t in model.tables}
    if len(shapes) > 1:
        return f"{len(model.tables)}t"
    rows, dim = shapes.pop()
    return f"{len(model.tables)}x{_short(rows)}x{dim}"


def _short(number: int) -> str:
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size and number % (size // 10) == 0:
            return f"{number / size:g}{letter}"
    return str(number)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a case ended: `ok`, `skipped` (never started; `reason` says why) or `failed`.

    `kind` for failures: error, wrong_result, invariant, diverged, not_compiled, crash, timeout, out_of_memory. `signal`
    is the name of the signal that ended the worker; `detail` the last lines it wrote (a traceback, for errors).
    """

    status: Literal["ok", "skipped", "failed"]
    kind: str | None = None
    reason: str | None = None
    signal: str | None = None
    detail: str | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings in force while the case ran, read back from the process rather than assumed.

    allocator: pinned or default (glibc, by whether a large block comes from the heap), else the library that is mapped.
    openmp_spin_frac: CPUs that idle OpenMP threads keep busy per thread, 50 ms after a parallel region; None where
    there is one thread. anon_huge_bytes of resident_bytes lie on huge pages. bounds_check is None where the backend
    has none; '' and None elsewhere: a record from before it was read back.
    """

    num_threads: int
    interop_threads: int
    affinity: tuple[int, ...]
    allocator_env: dict[str, str]
    transparent_huge_pages: str
    anon_huge_bytes: int
    matmul_precision: str
    tf32: bool
    flush_denormal: bool
    inference_mode: bool
    grad_mode: bool
    index_dtype: str = "int64"
    gc_disabled: bool = False
    allocator: str = ""
    wait_policy_env: str = ""
    openmp_spin_frac: float | None = None
    bounds_check: str | None = None
    resident_bytes: int = 0


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What was replayed: the file's name, its content's digest, its samples and tables.

    remapped_frac: share of lookups whose row the table does not have, folded into it (row modulo num_rows). wrapped:
    the file had fewer batches than the rotation asks for, so that steps meet the same lookups again sooner.
    """

    file: str
    digest: str
    samples: int
    tables: int
    remapped_frac: float
    wrapped: bool


class InputStats(msgspec.Struct, frozen=True, kw_only=True):
    """What the inputs of a case really were, against the asked law.

    unique_frac = distinct rows / lookups of one batch. top_1pct_mass is the share of lookups that go to the rows which
    this sample looks up most, 1 % of each table's rows: far above the law's in a sample that is sparse for its tables.
    top_1pct_ranks_mass is the share that goes to the first 1 % of the ranks of the tables' laws; None where no table
    has independent draws of one, and in older records. rotation_unique_bytes = bytes of distinct rows over all
    `num_batches`; residency compares that with the last-level cache, as reported (llc_bytes) and as the measured curve
    of reads has it (measured_llc_bytes, 0 where not known). index_ks and length_ks are Kolmogorov-Smirnov distances
    from the asked laws, of the table that is farthest for its number of draws: index_ks_lookups lookups (evenly spaced,
    where a table has more) and length_ks_bags bags. About 1/sqrt(n) where n draws follow the law; None where no table
    has independent draws of a law. reuse_asked and reuse_delivered are shares of the lookups of tables under
    `temporal`: asked, and expected of a batch so large; None without such tables. replay is None where lookups were
    drawn.
    """

    num_batches: int
    lookups_per_step: float
    unique_rows_per_step: float
    unique_frac: float
    mean_length: float
    p99_length: float
    top_1pct_mass: float
    top_1pct_ranks_mass: float | None = None
    rotation_unique_bytes: int
    llc_bytes: int
    measured_llc_bytes: int = 0
    residency: Literal["dram", "mixed", "cache", "unknown"]
    index_ks: float | None = None
    index_ks_lookups: int = 0
    length_ks: float | None = None
    length_ks_bags: int = 0
    reuse_asked: float | None = None
    reuse_delivered: float | None = None
    replay: Replayed | None = None


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """Agreement with the float64 reference: largest error relative to the tolerance's scale, and the tolerance."""

    max_error: float
    tolerance: float
    what: str


class StageTime(msgspec.Struct, frozen=True, kw_only=True):
    """Time of one stage per step, from the trace (a pass of its own): forward, backward, and its share of the step."""

    forward_s: float
    backward_s: float
    share_frac: float


class TraceSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the profiled pass said. `path` is relative to the run folder; overhead = profiled step / timed step.

    `step_s` is wall time. On a GPU (`clock` device) the stages' times are those of their kernels, copies and fills,
    their shares are of the timed step, and `coverage_frac` is the share of all device time that has a stage. A step
    kept the GPU busy for `device_busy_s`, work of several streams at once counted once (None: no GPU, or an older
    record).
    On a CPU, where `clocked_step_s` is given, stages were timed by the host's clock in steps without a profiler, that
    long in the mean, and only the backward pass is divided as the profiled one was, which took `backward_ratio` times
    as long; else they are those of the profiled step.
    """

    path: str
    steps: int
    step_s: float
    overhead_ratio: float
    stages: dict[str, StageTime]
    coverage_frac: float
    clock: Literal["host", "device"] = "host"
    clocked_step_s: float | None = None
    backward_ratio: float = 1.0
    device_busy_s: float | None = None

    @property
    def stages_step_s(self) -> float:
        """The step that the stages' times are parts of."""
        return self.clocked_step_s or self.step_s


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """One telemetry channel: samples at times relative to the first repeat. Unit in the name, as everywhere."""

    name: str
    source: str
    times_s: tuple[float, ...]
    values: tuple[float, ...]


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """The timed part of a case.

    times_s: mean step time of each repeat. event_times_s: the same between two events on the device's stream (CUDA),
    with the gaps that the host leaves between launches; else empty.
    step_times_s: single steps for latency percentiles (at most 4,000, evenly spread over the run). started_s: start
    of each repeat relative to the first, which began at origin_s on the host's monotonic clock (telemetry shares it).
    first_call_s: the first call of the step ever, compiling included where it is compiled. compile_s: every call that
    compiled something, or warm-up and capture of a CUDA graph; None for eager.
    user_s, system_s: CPU time of the process during the repeats, its own code and the kernel's for it.
    stopped_by: precision, time_budget or max_repeats. flags: what limits trust, as code words (not_steady,
    imprecise, page_faults, bimodal, outliers, host_bound (known from the trace), small_pages, huge_pages, other_load,
    graph_breaks, recompiled).
    """

    times_s: tuple[float, ...]
    steps_per_repeat: int
    step_times_s: tuple[float, ...]
    started_s: tuple[float, ...]
    origin_s: float
    clock: str
    stopped_by: str
    warmup_steps: int
    warmup_times_s: tuple[float, ...]
    first_call_s: float
    compile_s: float | None = None
    event_times_s: tuple[float, ...] = ()
    minor_faults: int = 0
    major_faults: int = 0
    user_s: float = 0.0
    system_s: float = 0.0
    involuntary_switches: int = 0
    peak_rss_bytes: int = 0
    device_peak_bytes: int | None = None
    flags: tuple[str, ...] = ()


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """Where the wall time of a case went: everything that is not one of these parts is fixed cost."""

    total_s: float
    build_s: float = 0.0
    inputs_s: float = 0.0
    prepare_s: float = 0.0
    check_s: float = 0.0
    measure_s: float = 0.0
    trace_s: float = 0.0

    @property
    def fixed_s(self) -> float:
        """Wall time beyond building tables and inputs, compiling, checking, measuring and tracing."""
        before_s = self.build_s + self.inputs_s + self.prepare_s + self.check_s
        return self.total_s - before_s - self.measure_s - self.trace_s


class Record(msgspec.Struct, frozen=True, kw_only=True, weakref=True):
    """One case and all that is known of how it went. One line of records.jsonl.

    parameters: counted from the built module by what they belong to (tables, bottom_mlp, interaction, top_mlp; bias
    where a factorization has a w_0; hashed pair weights are the interaction's). rounding_error: relative L2 error of
    pooled rows against the float32 tables, where rows are stored in fewer bits.
    """

    schema_version: int
    key: str
    case: Case
    outcome: Outcome
    machine: str
    started_at: str
    commit: str | None = None
    measurement: Measurement | None = None
    work: Work | None = None
    inputs: InputStats | None = None
    settings: Settings | None = None
    check: Check | None = None
    graphs: Graphs | None = None
    trace: TraceSummary | None = None
    telemetry: tuple[Channel, ...] = ()
    costs: Costs | None = None
    parameters: dict[str, int] | None = None
    rounding_error: float | None = None


class QualityPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Quality on held-out samples after training on `samples` samples in `train_s` seconds."""

    samples: int
    train_s: float
    log_loss: float
    auc: float


class RateTry(msgspec.Struct, frozen=True, kw_only=True):
    """One learning rate that was tried: log loss on validation samples (None: it diverged), and its training time."""

    learning_rate: float
    log_loss: float | None
    train_s: float


class QualityTrial(msgspec.Struct, frozen=True, kw_only=True):
    """One model trained on one synthetic click log from one seed. One line of quality.jsonl.

    log: planted (labels depend on pairwise interactions of known strength) or control (on no interaction).
    bayes_log_loss: log loss of the true probabilities on the same held-out samples, the least that any model can
    expect; prior_log_loss: that of always predicting the base rate. budget_flops: the forward FLOPs per sample that
    the model was sized for, None where its size follows from the log. The last point of `curve` is the result.
    first_order_log_loss: that of the truth's first-order terms alone, scaled to fit: what can be had without pairs.
    `learning_rate` is the one of `rates` that validation chose; training with the others is not in the curve's train_s.
    """

    schema_version: int
    key: str
    log: Literal["planted", "control"]
    model: ModelSpec
    seed: int
    budget_flops: float | None
    outcome: Outcome
    params: int = 0
    flops_per_sample_forward: float = 0.0
    bayes_log_loss: float | None = None
    bayes_auc: float | None = None
    prior_log_loss: float | None = None
    curve: tuple[QualityPoint, ...] = ()
    first_order_log_loss: float | None = None
    click_log: ClickLogSpec | None = None
    learning_rate: float | None = None
    rates: tuple[RateTry, ...] = ()
    started_at: str = ""
    total_s: float = 0.0


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long and how precisely each case is measured; at most `remeasured` cases once more, by other processes.

    `precision_frac` ends measuring after `min_repeats` at the least, `budget_s` after 6 (bench/running/stopping.py).
    """

    precision_frac: Annotated[float, msgspec.Meta(ge=0)] = 0.02
    min_repeats: Annotated[int, msgspec.Meta(ge=1)] = 12
    max_repeats: Annotated[int, msgspec.Meta(ge=1)] = 200
    budget_s: Annotated[float, msgspec.Meta(gt=0)] = 2.0
    min_repeat_s: Annotated[float, msgspec.Meta(gt=0)] = 0.05
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 300.0
    trace_steps: Annotated[int, msgspec.Meta(ge=1)] = 3
    trace: bool = True
    remeasured: Annotated[int, msgspec.Meta(ge=0)] = 6


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """run.json: everything needed to understand, resume and repeat a run. `cases` is the resolved sweep, in order.

    `quality` is the sweep's [quality] table; the same program makes the same trials of it.
    """

    schema_version: int
    name: str
    created_at: str
    argv: tuple[str, ...]
    cases: tuple[Case, ...]
    limits: Limits
    machine: Machine
    commit: str | None
    code_digest: str
    version: str
    quality: Quality | None = None
