"""Which gather ceiling an embedding is held to: that of what a cache can hold again, or of the whole tables."""

import msgspec
import pytest

from bench import roofs
from bench.records import Record
from tests import sample_records

MIB = 2**20
ROWS, DIM = 1_000_000, 64
TABLE_BYTES = 8 * ROWS * DIM * 4


def case_of(
    *, batches: int, unique_per_step: int, rotation_rows: int, residency: str, cache_mode: str = "rotated"
) -> Record:
    case = msgspec.structs.replace(
        sample_records.backend_cases()[0], model=sample_records.model(ROWS, DIM), cache_mode=cache_mode
    )
    record = sample_records.record(case)
    assert record.inputs
    inputs = msgspec.structs.replace(
        record.inputs,
        num_batches=batches,
        unique_rows_per_step=unique_per_step,
        rotation_unique_bytes=rotation_rows * DIM * 4,
        residency=residency,
        llc_bytes=32 * MIB,
    )
    return msgspec.structs.replace(record, inputs=inputs)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Two batches with 1 % in common, beyond the cache: nothing is met again in time.
        ({"batches": 2, "unique_per_step": 300_000, "rotation_rows": 594_000, "residency": "dram"}, TABLE_BYTES),
        # Skewed: half of each batch is in the other too, and a cache may keep it.
        ({"batches": 2, "unique_per_step": 300_000, "rotation_rows": 400_000, "residency": "dram"}, None),
        ({"batches": 2, "unique_per_step": 60_000, "rotation_rows": 119_000, "residency": "cache"}, None),
        # Emptied caches: from memory, however small.
        (
            {"batches": 1, "unique_per_step": 60, "rotation_rows": 60, "residency": "mixed", "cache_mode": "cold"},
            TABLE_BYTES,
        ),
    ],
    ids=["apart", "shared", "cache", "cold"],
)
def test_the_working_set_of_the_gather_roof(changes, expected):
    record = case_of(**changes)
    assert record.work
    stage = record.work.stages["embedding"]
    assert roofs.gathered_bytes(record, stage) == (expected or stage.working_set_bytes)
    assert stage.working_set_bytes < TABLE_BYTES
