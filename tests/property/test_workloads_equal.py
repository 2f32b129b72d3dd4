"""Every backend equals the float64 reference over random models; inputs are in range and reproducible."""

import os

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.model_specs import hashed_poly2
from workloads import backends, indices, lengths, models
from workloads.batch import make_batch
from workloads.reference import check
from workloads.spec import ModelSpec, TableSpec, with_axis
from workloads.steps import build_model

# Each variant on each backend in each phase gets this many random specs; DLRM_BENCH_EXAMPLES=50 for a thorough run.
EXAMPLES = int(os.environ.get("DLRM_BENCH_EXAMPLES", "8"))
FEW = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def tables(draw, dim=None):
    pooling = draw(st.sampled_from(["sum", "mean"]))
    return TableSpec(
        name="t",
        num_rows=draw(st.sampled_from([1, 2, 7, 300])),
        dim=dim or draw(st.sampled_from([4, 8, 20])),
        pooling_factor=draw(st.integers(1, 6)),
        pooling=pooling,
        weighted=pooling == "sum" and draw(st.booleans()),
        indices=draw(st.sampled_from(indices.names())),
        lengths=draw(st.sampled_from(lengths.names())),
        exponent=draw(st.floats(0, 3)),
        steps=((0.25, 0.75), (0.75, 0.25)),
    )


NO_TOP = ("mf", "fm", "poly2")
MIXED_DIMS = ("mlp", "dlrm_cat", "dcn", "dcnv2")
FORMS = {"fm": ["pairwise", "square_of_sum"], "deepfm": ["pairwise", "square_of_sum"], "poly2": ["block"]}


@st.composite
def specs(draw, variant=None):
    variant = variant or draw(st.sampled_from(["embedding", "dlrm"]))
    if variant == "embedding":
        return ModelSpec(name="m", variant="embedding", tables=tuple(draw(st.lists(tables(), min_size=1, max_size=4))))
    if variant == "poly2" and draw(st.booleans()):
        return hashed_poly2(draw(st.integers(2, 4)), draw(st.sampled_from([1, 30])))
    dense = variant != "mf" and draw(st.booleans())
    raw = variant == "fm_mlp" or (variant in ("mlp", "dcn", "dcnv2") and draw(st.booleans()))
    dim = None if variant in MIXED_DIMS and draw(st.booleans()) else 8
    return ModelSpec(
        name="m",
        variant=variant,
        tables=tuple(draw(st.lists(tables(dim=dim), min_size=2, max_size=2 if variant == "mf" else 4))),
        num_dense=3 if dense else 0,
        bottom_mlp=(5, 8) if dense and not raw else (),
        top_mlp=() if variant in NO_TOP else draw(st.sampled_from([(6, 1), (1,)])),
        interaction=draw(st.sampled_from(["dot", "cat"])),
        interaction_self=draw(st.booleans()),
        cross_layers=draw(st.integers(1, 3)),
        cross_rank=draw(st.sampled_from([0, 4])) if variant == "dcnv2" else 0,
        form=draw(st.sampled_from(FORMS.get(variant, [""]))),
    )


@pytest.mark.parametrize("phase", ["forward", "train_step"])
@pytest.mark.parametrize("backend", backends.names())
@pytest.mark.parametrize("variant", models.names())
@given(data=st.data(), batch_size=st.sampled_from([1, 2, 9]), seed=st.integers(0, 100))
@FEW
def test_every_backend_equals_the_reference(variant, backend, phase, data, batch_size, seed):
    spec = data.draw(specs(variant))
    reason = backends.load(backend).available("cpu", phase)
    if reason:
        pytest.skip(reason)
    assume(not backend.startswith("tbe") or not any(t.dim % 4 for t in spec.tables))
    if backend == "tbe_int":
        row_type = st.sampled_from(["float32", "float16", "int8", "int4"])
        kept = tuple(msgspec.structs.replace(t, row_type=data.draw(row_type)) for t in spec.tables)
        spec = msgspec.structs.replace(spec, tables=kept)
    bundle = build_model(spec, backend, phase=phase, seed=seed, num_threads=1)
    found = check(bundle, make_batch(spec, batch_size, seed))
    assert found.ok, found


@given(spec=specs(), batch_size=st.integers(1, 20), seed=st.integers(0, 2**40), number=st.integers(0, 5))
@settings(deadline=None)
def test_batches_are_in_range_monotone_and_reproducible(spec, batch_size, seed, number):
    batch, again = (make_batch(spec, batch_size, seed, number, num_threads=n) for n in (1, 3))
    np.testing.assert_array_equal(batch.indices, again.indices)
    np.testing.assert_array_equal(batch.dense, again.dense)
    assert (np.diff(batch.offsets) >= 0).all()
    assert batch.offsets[-1] == batch.indices.size
    for t, table in enumerate(spec.tables):
        part = batch.table(t)
        assert part.indices.min(initial=0) >= 0
        assert part.indices.max(initial=0) < table.num_rows
        assert part.offsets[-1] == part.indices.size


@given(num_rows=st.integers(1, 2**40), exponent=st.floats(0, 8), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_any_law_stays_in_any_table(num_rows, exponent, seed):
    for law in indices.names():
        table = TableSpec(
            name="t", num_rows=num_rows, dim=4, indices=law, exponent=exponent, steps=((0.5, 1.0), (0.5, 0.0))
        )
        out = np.empty(2000, np.int64)
        indices.fill_indices(table, (seed, 0, 0, 1), 0, out)
        assert out.min() >= 0
        assert out.max() < num_rows


@given(num_rows=st.integers(1, 10**7), exponent=st.floats(0, 3), lookups=st.integers(1, 10**6))
@settings(deadline=None, max_examples=50)
def test_expected_unique_is_bounded_by_rows_and_lookups(num_rows, exponent, lookups):
    table = TableSpec(name="t", num_rows=num_rows, dim=4, indices="zipf", exponent=exponent)
    found = indices.expected_unique(table, lookups)
    assert 0 < found <= min(num_rows, lookups) * (1 + 1e-6)


@given(spec=specs(), scale=st.floats(0.01, 10))
@settings(deadline=None)
def test_scaling_rows_keeps_everything_else(spec, scale):
    assume(scale != 1)
    scaled = with_axis(spec, "rows_scale", scale)
    assert scaled.rows_scale == scale
    assert [t.dim for t in scaled.tables] == [t.dim for t in spec.tables]
    assert min(t.num_rows for t in scaled.tables) >= 1
