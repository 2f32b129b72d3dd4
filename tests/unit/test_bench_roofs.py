"""Which ceilings a case is held to: the gather of what a cache can hold again, products in its own precision."""

import msgspec
import pytest

from bench import roofs
from bench.inspection import profiling
from bench.plots import roofline
from bench.records import Case, Record
from profiles.machine import Ceiling
from profiles.trace.roofs import roofs_of
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


PRODUCTS = {"float32": 50e12, "tf32": 400e12, "bfloat16": 800e12}
CEILINGS = msgspec.structs.replace(
    sample_records.ceilings("cuda:0"),
    gemm={n: Ceiling(kernel="mm", source="measured", spread_frac=0.0, flops_per_s=v) for n, v in PRODUCTS.items()},
)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"device": "cuda"}, "float32"),
        ({"device": "cuda", "tf32": True}, "tf32"),
        ({"device": "cuda:1", "matmul_precision": "high"}, "tf32"),
        ({"device": "cuda", "matmul_precision": "medium"}, "tf32"),
        ({"device": "cuda", "matmul_precision": "high", "dtype": "bfloat16"}, "bfloat16"),
        ({"device": "cpu"}, "float32"),
        # Not measured on a CPU, so that no product there is held to it.
        ({"device": "cpu", "matmul_precision": "high"}, "tf32"),
        ({"device": "cpu", "matmul_precision": "medium"}, None),
        ({"device": "cpu", "matmul_precision": "medium", "dtype": "bfloat16"}, "bfloat16"),
    ],
)
def test_products_are_held_to_the_precision_they_are_computed_in(settings, expected):
    assert roofs.product_dtype(Case(**settings)) == expected


@pytest.mark.parametrize(
    ("settings", "peak"),
    [
        ({"device": "cuda"}, 50e12),
        ({"device": "cuda", "tf32": True}, 400e12),
        ({"device": "cuda", "matmul_precision": "medium"}, 400e12),
        ({"device": "cpu", "matmul_precision": "medium"}, None),
    ],
)
def test_stages_traces_and_the_picture_have_one_product_ceiling(settings, peak):
    record = sample_records.record(sample_records.backend_cases()[0])
    record = msgspec.structs.replace(record, case=msgspec.structs.replace(record.case, **settings))
    device = "cpu" if settings["device"] == "cpu" else "cuda:0"
    machine = sample_records.machine(ceilings={device: CEILINGS})
    assert record.work
    stage = msgspec.structs.replace(record.work.stages["top_mlp"], bytes_compulsory=0)
    roof = roofs.stage_roof(record, "top_mlp", stage, CEILINGS)
    assert roof.seconds == (pytest.approx(stage.flops / peak) if peak else 0.0)
    assert (roof.bound == "compute") == bool(peak)
    traced = profiling._roofs(record, machine)
    assert traced
    assert traced.flops_per_s.get("float32") == peak
    assert list(roofline.product_peaks([record], CEILINGS).values()) == ([peak] if peak else [])


def test_roofs_of_a_trace_say_which_ceiling_float32_has():
    assert roofs_of(CEILINGS, "it").flops_per_s == PRODUCTS
    assert "float32" not in roofs_of(CEILINGS, "it").source
    assert roofs_of(CEILINGS, "it", "tf32").flops_per_s == PRODUCTS | {"float32": 400e12}
    assert roofs_of(CEILINGS, "it", "tf32").source.endswith("float32 products: tf32")
    assert roofs_of(CEILINGS, "it", None).flops_per_s == {"tf32": 400e12, "bfloat16": 800e12}
    assert roofs_of(CEILINGS, "it", None).source.endswith("no ceiling")
