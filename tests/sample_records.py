"""Synthetic but realistic records: the quick sweep on a 2-core machine, seeded, without torch.

Step times follow a plain cost model (gather rate by row size and residency, GEMM rate, dispatch per operator) with
noise, so that reports and plots have the shapes of a real run.
"""

from __future__ import annotations

import random

import msgspec

from bench.records import (
    SCHEMA_VERSION,
    Case,
    Channel,
    InputStats,
    Limits,
    Manifest,
    Measurement,
    Outcome,
    Record,
    StageTime,
    TraceSummary,
)
from profiles.machine import Cache, Ceiling, Ceilings, Cpu, Fingerprint, Gpu, Machine, Software
from workloads.models.dlrm import count_work
from workloads.spec import ModelSpec, TableSpec
from workloads.work import TableTouch, Work

MIB = 2**20
GATHER_GBS = {16: 2.4, 64: 6.1, 128: 8.8, 256: 12.4, 512: 15.0, 1024: 16.9}
NUM_BATCHES = 8
BACKEND_COST = {"bag": 1.0, "fused_bag": 0.84, "tbe": 0.66}
BACKEND_TRAIN_COST = {"bag": 3.4, "fused_bag": 2.9, "tbe": 1.7}


def rate(kernel: str, gbs: float, **more: object) -> Ceiling:
    """A measured bandwidth in GB/s."""
    return Ceiling(kernel=kernel, source="measured", spread_frac=0.031, bytes_per_s=gbs * 1e9, **more)  # type: ignore[arg-type]


def ceilings(device: str = "cpu") -> Ceilings:
    """Ceilings of a 2-core virtual machine with 32 MiB of last-level cache."""
    sets = {1 * MIB: 3.4, 16 * MIB: 1.9, 128 * MIB: 1.0}
    return Ceilings(
        device=device,
        measured_at="2026-01-05T10:00:00+00:00",
        duration_s=21.4,
        stream_read=rate("torch.sum", 30.2, threads=2, working_set_bytes=256 * MIB),
        stream_write=rate("torch.zero_", 14.8, threads=2, working_set_bytes=256 * MIB),
        stream_copy=rate("torch.copy_", 20.1, threads=2, working_set_bytes=256 * MIB),
        stream_triad=rate("torch.add(out=)", 22.7, threads=2, working_set_bytes=256 * MIB),
        stream_read_one_thread=rate("torch.dot", 17.9, threads=1, working_set_bytes=256 * MIB),
        stream_read_curve=tuple(
            rate("torch.sum", gbs, working_set_bytes=size * MIB)
            for size, gbs in ((1, 88.0), (4, 81.0), (16, 66.0), (64, 34.0), (256, 30.2))
        ),
        gather=tuple(
            rate("torch.index_select(out=)", gbs * factor, row_bytes=row, working_set_bytes=size)
            for row, gbs in GATHER_GBS.items()
            for size, factor in sets.items()
        ),
        gemm={
            "float32": Ceiling(kernel="torch.mm 1024", source="measured", spread_frac=0.02, flops_per_s=148e9),
            "bfloat16": Ceiling(kernel="torch.mm 1024", source="measured", spread_frac=0.05, flops_per_s=61e9),
        },
    )


def machine(**changes: object) -> Machine:
    """The machine of the sample run."""
    made = Machine(
        cpu=Cpu(
            vendor="AuthenticAMD",
            name="AMD EPYC 7B13",
            family=25,
            model=1,
            logical_cpus=2,
            physical_cores=1,
            caches=(
                Cache(level=1, size_bytes=32 * 1024, instances=1),
                Cache(level=2, size_bytes=512 * 1024, instances=1),
                Cache(level=3, size_bytes=32 * MIB, instances=1),
            ),
            hypervisor="KVM",
        ),
        gpus=(),
        memory_bytes=16 * 2**30,
        software=Software(python="3.11.2", torch="2.13.0+cpu", fbgemm="1.8.0", blas="mkl", kernel="6.1", libc="2.36"),
        fingerprint=Fingerprint(hash="a1b2c3d4e5f6", hard={}, soft={}, volatile={}),
        trust=("steal time of 1.2 % while measuring ceilings", "the frequency governor cannot be read"),
        ceilings={"cpu": ceilings()},
    )
    return msgspec.structs.replace(made, **changes)


def gpu(index: int, name: str) -> Gpu:
    """A GPU to give to `machine`."""
    return Gpu(
        index=index, name=name, sm_count=1, memory_bytes=2**30, l2_bytes=MIB, compute_capability="9.0", pci=f"0:{index}"
    )


def model(rows: int, dim: int, *, tables: int = 8, pooling: int = 40, name: str = "paper") -> ModelSpec:
    """A DLRM in which the embedding dominates."""
    return ModelSpec(
        name=name,
        tables=tuple(TableSpec(name=f"t{i}", num_rows=rows, dim=dim, pooling_factor=pooling) for i in range(tables)),
        num_dense=256,
        bottom_mlp=(256, dim),
        top_mlp=(512, 256, 1),
    )


def touch(rows: int, lookups: int) -> TableTouch:
    """Uniform lookups: rows (1 - e^(-n / rows)) distinct ones."""
    unique = rows * (1 - 2.718281828 ** (-lookups / rows))
    over_all = rows * (1 - 2.718281828 ** (-NUM_BATCHES * lookups / rows))
    return TableTouch(lookups=lookups, unique_rows=unique, rotation_unique_rows=round(over_all))


def stage_seconds(case: Case, work: Work) -> dict[str, tuple[float, float]]:
    """(forward, backward) seconds of each stage by the cost model."""
    training = case.phase == "train_step"
    embedding = work.stages["embedding"]
    gbs = GATHER_GBS[round(work.row_bytes)] * (2.2 if embedding.working_set_bytes < 32 * MIB else 1.0)
    forward = work.lookups * work.row_bytes / (gbs * 1e9) / 0.52 * BACKEND_COST[case.backend] + 90e-6
    found = {"embedding": (forward, forward * BACKEND_TRAIN_COST[case.backend] if training else 0.0)}
    for name, stage in work.stages.items():
        if name == "embedding":
            continue
        rate_flops = 118e9 if name.endswith("mlp") else 24e9
        seconds = stage.flops / rate_flops + stage.bytes_compulsory / 25e9 + 25e-6
        found[name] = (seconds / 3, seconds * 2 / 3) if training and name not in ("loss", "optimizer") else (seconds, 0)
    return found


def measurement(step_s: float, random_: random.Random, *, repeats: int = 14, spread: float = 0.012) -> Measurement:
    """Repeats with a little noise, a slow one now and then, and single steps."""
    count = max(1, round(0.05 / step_s))
    slow = [1.08 if random_.random() < 0.06 else 1.0 for _ in range(repeats)]
    times = tuple(step_s * random_.gauss(1.0, spread) * s for s in slow)
    singles = tuple(t * max(0.8, random_.gauss(1, 0.03)) for t in times for _ in range(min(count, 20)))
    started = tuple(i * count * step_s * 1.01 for i in range(repeats))
    return Measurement(
        times_s=times,
        steps_per_repeat=count,
        step_times_s=singles,
        started_s=started,
        origin_s=100.0,
        clock="perf_counter_ns",
        stopped_by="precision",
        warmup_steps=14,
        warmup_times_s=tuple(step_s * 1.1 for _ in range(13)),
        first_call_s=step_s * 9,
        minor_faults=2,
        involuntary_switches=3,
        peak_rss_bytes=900 * MIB,
        flags=("imprecise",) if spread > 0.03 else (),
    )


def trace_of(case: Case, step_s: float, parts: dict[str, tuple[float, float]]) -> TraceSummary:
    """The profiled pass: 9 % slower, 96 % of the step covered by stages."""
    overhead, covered = 1.09, 0.96
    total = sum(f + b for f, b in parts.values()) / covered
    return TraceSummary(
        path=f"traces/{case.key()}.pt.trace.json.gz",
        steps=3,
        step_s=step_s * overhead,
        overhead_ratio=overhead,
        stages={
            name: StageTime(
                forward_s=f / total * step_s * overhead,
                backward_s=b / total * step_s * overhead,
                share_frac=(f + b) / total,
            )
            for name, (f, b) in parts.items()
        },
        coverage_frac=covered,
    )


def telemetry(duration_s: float, rss_bytes: int, random_: random.Random) -> tuple[Channel, ...]:
    """Process and host channels at 20 Hz."""
    times = tuple(i * 0.05 for i in range(max(2, int(duration_s / 0.05))))
    return (
        Channel(name="rss_bytes", source="process", times_s=times, values=tuple(float(rss_bytes) for _ in times)),
        Channel(
            name="host_cpu_frac",
            source="host",
            times_s=times,
            values=tuple(min(1.0, max(0.0, random_.gauss(0.96, 0.02))) for _ in times),
        ),
        Channel(
            name="cpu_frequency_hz",
            source="host",
            times_s=times,
            values=tuple(random_.gauss(3.05e9, 2e7) for _ in times),
        ),
    )


def record(case: Case, index: int = 0) -> Record:
    """An `ok` record of `case`, the same for the same arguments."""
    assert case.model is not None
    random_ = random.Random(f"{case.key()}-{index}")
    spec = case.model
    lookups = round(case.batch_size * spec.tables[0].pooling_factor)
    touches = tuple(touch(t.num_rows, lookups) for t in spec.tables)
    work = count_work(spec, case.batch_size, case.phase, touches)
    parts = stage_seconds(case, work)
    step_s = sum(f + b for f, b in parts.values()) / 0.96
    found = measurement(step_s, random_, spread=0.045 if index % 9 == 4 else 0.012)
    found = msgspec.structs.replace(found, peak_rss_bytes=420 * MIB + spec.table_bytes)
    unique_bytes = work.stages["embedding"].working_set_bytes
    return Record(
        schema_version=SCHEMA_VERSION,
        key=case.key(),
        case=case,
        outcome=Outcome(status="ok"),
        machine="a1b2c3d4e5f6",
        started_at=f"2026-01-05T10:{1 + index * 4 // 60:02d}:{index * 4 % 60:02d}+00:00",
        commit="0123456789abcdef",
        measurement=found,
        work=work,
        inputs=InputStats(
            num_batches=NUM_BATCHES,
            lookups_per_step=work.lookups,
            unique_rows_per_step=sum(t.unique_rows for t in touches),
            unique_frac=sum(t.unique_rows for t in touches) / work.lookups,
            mean_length=40.0,
            p99_length=40.0,
            top_1pct_mass=0.01,
            rotation_unique_bytes=unique_bytes,
            llc_bytes=32 * MIB,
            residency="dram" if unique_bytes > 128 * MIB else "mixed" if unique_bytes > 16 * MIB else "cache",
        ),
        trace=trace_of(case, step_s, parts),
        telemetry=telemetry(found.started_s[-1], found.peak_rss_bytes, random_),
    )


def scaling_cases() -> list[Case]:
    """Rows x dim x batch on one backend: 18 cases."""
    return [
        Case(model=model(rows, dim), batch_size=batch, backend="tbe")
        for rows in (20_000, 1_000_000)
        for dim in (16, 64, 128)
        for batch in (128, 512, 2048)
    ]


def backend_cases() -> list[Case]:
    """Backend x phase x batch; those of tbe forward are scaling cases as well and left out here: 10 cases."""
    return [
        Case(model=model(1_000_000, 64), batch_size=batch, backend=backend, phase=phase)  # type: ignore[arg-type]
        for batch in (512, 2048)
        for backend in ("bag", "fused_bag", "tbe")
        for phase in ("forward", "train_step")
        if (backend, phase) != ("tbe", "forward")
    ]


def ended_badly() -> list[Record]:
    """One skipped and one failed record."""
    skipped = Case(model=model(1_000_000, 64), batch_size=512, backend="torchrec")
    failed = Case(model=model(50_000_000, 128), batch_size=2048, backend="tbe")
    plain = {"schema_version": SCHEMA_VERSION, "machine": "a1b2c3d4e5f6", "started_at": "2026-01-05T10:05:00+00:00"}
    return [
        Record(
            **plain,  # type: ignore[arg-type]
            key=skipped.key(),
            case=skipped,
            outcome=Outcome(status="skipped", reason="torchrec is not installed: pip install 'dlrm-bench[torchrec]'"),
        ),
        Record(
            **plain,  # type: ignore[arg-type]
            key=failed.key(),
            case=failed,
            outcome=Outcome(
                status="failed",
                kind="out_of_memory",
                reason="the worker was killed while building tables (204.8 GB asked, 16 GiB here)",
                signal="SIGKILL",
            ),
        ),
    ]


def records() -> list[Record]:
    """The whole sample run: 28 measured cases, one skipped, one failed."""
    cases = [*scaling_cases(), *backend_cases()]
    return [*(record(case, i) for i, case in enumerate(cases)), *ended_badly()]


def manifest(found: list[Record], **changes: object) -> Manifest:
    """run.json of the sample run."""
    made = Manifest(
        schema_version=SCHEMA_VERSION,
        name="quick",
        created_at="2026-01-05T10:00:30+00:00",
        argv=("sweep", "quick"),
        cases=tuple(r.case for r in found),
        limits=Limits(),
        machine=machine(),
        commit="0123456789abcdef",
        code_digest="feedc0de",
        version="0.1.0",
    )
    return msgspec.structs.replace(made, **changes)
