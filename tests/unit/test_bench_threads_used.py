"""Which backends leave threads idle is said from telemetry, and only where the embedding is most of the step."""

import msgspec
import pytest

from bench import metrics
from bench.records import Channel, Record, StageTime
from bench.reporting.threads_used import idle_threads
from tests import sample_records

MACHINE = sample_records.machine()
SETTINGS = {
    "interop_threads": 1,
    "affinity": (0, 1),
    "allocator_env": {},
    "transparent_huge_pages": "madvise",
    "anon_huge_bytes": 0,
    "matmul_precision": "highest",
    "tf32": False,
    "flush_denormal": False,
    "inference_mode": True,
    "grad_mode": False,
}


def using(cpus: float, *, backend: str = "tbe", threads: int = 2, embedding: float = 0.9) -> Record:
    from bench.records import Settings

    case = msgspec.structs.replace(sample_records.backend_cases()[0], backend=backend)
    record = sample_records.record(case)
    assert record.trace
    times = (-1.0, *(0.01 * i for i in range(5)))
    stage = StageTime(forward_s=0.001, backward_s=0.0, share_frac=embedding)
    return msgspec.structs.replace(
        record,
        telemetry=(Channel(name="cpu_frac", source="process", times_s=times, values=(9.0, *[cpus] * 5)),),
        trace=msgspec.structs.replace(record.trace, stages=record.trace.stages | {"embedding": stage}),
        settings=Settings(num_threads=threads, **SETTINGS),
    )


def test_cpus_used_are_those_of_the_timed_repeats():
    assert metrics.value(using(1.25), MACHINE, "cpus_used") == pytest.approx(1.25)


def test_an_idle_thread_is_told_beside_those_that_work():
    alone = using(1.0, threads=1)
    (text,) = idle_threads([using(1.04), using(1.0), alone, using(1.9, backend="fused_bag")], MACHINE)
    assert "tbe 1.0 of 2, where fused_bag 1.9 of 2." in text


@pytest.mark.parametrize(
    "record",
    [using(1.9), using(1.0, threads=1), using(1.0, embedding=0.2), msgspec.structs.replace(using(1.0), telemetry=())],
    ids=["busy", "one thread", "other stages", "nobody looked"],
)
def test_nothing_is_said_where_nothing_is_idle_or_known(record):
    assert idle_threads([record], MACHINE) == []
