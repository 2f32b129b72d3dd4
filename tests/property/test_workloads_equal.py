"""Every backend equals the float64 reference over random models; inputs are in range and reproducible."""

import dataclasses
import os
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from tests.model_specs import hashed_poly2
from workloads import backends, indices, lengths, models
from workloads.batch import make_batch
from workloads.reference import check, touched
from workloads.spec import ModelSpec, TableSpec, with_axis
from workloads.steps import build_model
from workloads.tables import fill_table

# Each variant on each backend in each phase gets this many random specs: by default the same ones in every run, and
# other ones each time where a number is asked for, as in DLRM_BENCH_EXAMPLES=500.
ASKED = os.environ.get("DLRM_BENCH_EXAMPLES")
EXAMPLES = int(ASKED or "50")
MANY = settings(
    max_examples=EXAMPLES,
    derandomize=ASKED is None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
ROW_TYPES = ("float32", "float16", "int8", "int4")
NO_TOP = ("mf", "fm", "poly2")
MIXED_DIMS = ("embedding", "mlp", "dlrm_cat", "dcn", "dcnv2")
FORMS = {"fm": ["pairwise", "square_of_sum"], "deepfm": ["pairwise", "square_of_sum"], "poly2": ["block"]}
DIMS = {"tbe": (4, 8, 20), "tbe_int": (4, 8, 20)}


@st.composite
def tables(draw, dims, row_types=("float32",)):
    pooling = draw(st.sampled_from(["sum", "mean"]))
    return TableSpec(
        name="t",
        num_rows=draw(st.sampled_from([1, 2, 7, 300])),
        dim=draw(st.sampled_from(dims)),
        pooling_factor=draw(st.integers(1, 6)),
        pooling=pooling,
        weighted=pooling == "sum" and draw(st.booleans()),
        indices=draw(st.sampled_from(indices.names())),
        lengths=draw(st.sampled_from(lengths.names())),
        exponent=draw(st.floats(0, 3)),
        steps=((0.25, 0.75), (0.75, 0.25)),
        row_type=draw(st.sampled_from(row_types)),
    )


@st.composite
def specs(draw, variant=None, backend="bag"):
    variant = variant or draw(st.sampled_from(["embedding", "dlrm"]))
    dims = DIMS.get(backend, (2, 5, 8))
    row_types = ROW_TYPES if backend == "tbe_int" else ("float32",)
    if variant == "poly2" and backend not in DIMS and draw(st.booleans()):
        return hashed_poly2(draw(st.integers(2, 4)), draw(st.sampled_from([1, 30])))
    if variant not in MIXED_DIMS or draw(st.booleans()):
        dims = (draw(st.sampled_from(dims)),)
    least, most = (1, 4) if variant == "embedding" else (2, 2 if variant == "mf" else 4)
    made = tuple(draw(st.lists(tables(dims, row_types), min_size=least, max_size=most)))
    if variant == "embedding":
        return ModelSpec(name="m", variant="embedding", tables=made)
    dense = variant != "mf" and draw(st.booleans())
    raw = variant == "fm_mlp" or (variant in ("mlp", "dcn", "dcnv2") and draw(st.booleans()))
    return ModelSpec(
        name="m",
        variant=variant,
        tables=made,
        num_dense=3 if dense else 0,
        bottom_mlp=(5, made[0].dim) if dense and not raw else (),
        top_mlp=() if variant in NO_TOP else draw(st.sampled_from([(6, 1), (1,)])),
        interaction=draw(st.sampled_from(["dot", "cat"])),
        interaction_self=draw(st.booleans()),
        cross_layers=draw(st.integers(1, 3)),
        cross_rank=draw(st.sampled_from([0, 4])) if variant == "dcnv2" else 0,
        form=draw(st.sampled_from(FORMS.get(variant, [""]))),
    )


def features(spec, batch):
    """What of the hard cases this one has."""
    found = {"sum"} if any(t.pooling == "sum" for t in spec.tables) else set()
    for t, table in enumerate(spec.tables):
        part = batch.table(t)
        bags = np.split(part.indices, part.offsets[1:-1])
        has = {
            "mean": table.pooling == "mean",
            "weighted": table.weighted,
            "one-row table": table.num_rows == 1,
            "empty bag": any(b.size == 0 for b in bags),
            "repeat in a bag": any(np.unique(b).size < b.size for b in bags),
            f"{table.row_type} rows": True,
        }
        found |= {name for name, holds in has.items() if holds}
    return (
        found
        | ({"mixed dims"} if len({t.dim for t in spec.tables}) > 1 else set())
        | ({"batch of one"} if batch.batch_size == 1 else set())
    )


def required(variant, backend):
    """What a run of fifty must have met."""
    every = {"sum", "mean", "weighted", "one-row table", "empty bag", "repeat in a bag", "batch of one"}
    mixed = {"mixed dims"} if variant in MIXED_DIMS else set()
    rows = {f"{t} rows" for t in (ROW_TYPES if backend == "tbe_int" else ["float32"])}
    return every | mixed | rows


def ways_of(backend, phase):
    """Every dense dtype with every optimizer that the backend has here for this phase."""
    plain = (TableSpec(name="t", num_rows=1, dim=4),)
    optimizers = backends.OPTIMIZERS if phase == "train_step" else ("sgd",)
    return [
        (dtype, optimizer)
        for dtype in ("float32", "bfloat16", "float16")
        for optimizer in optimizers
        if not backends.refusal(backend, plain, device="cpu", dtype=dtype, phase=phase, optimizer=optimizer)
    ]


@pytest.mark.parametrize("phase", ["forward", "train_step"])
@pytest.mark.parametrize("backend", backends.names())
@pytest.mark.parametrize("variant", models.names())
def test_every_backend_equals_the_reference(variant, backend, phase):
    reason = backends.load(backend).available("cpu", phase)
    if reason:
        pytest.skip(reason)
    seen = Counter()
    for dtype, optimizer in ways_of(backend, phase):
        # Lower precisions change the dense part alone, and their tolerances are wide: a fifth of the examples.
        number = EXAMPLES if dtype == "float32" else max(1, EXAMPLES // 5)
        many_equal(variant, backend, phase, dtype, optimizer, settings(MANY, max_examples=number), seen)
    for name in required(variant, backend) if EXAMPLES >= 50 else ():
        assert seen[name], (name, seen)


def many_equal(variant, backend, phase, dtype, optimizer, how, seen):
    """Random specs and batches in one way; `seen` counts what they had."""

    @how
    @given(spec=specs(variant, backend), batch_size=st.sampled_from([1, 2, 9]), seed=st.integers(0, 100))
    def run(spec, batch_size, seed):
        bundle = build_model(spec, backend, dtype=dtype, phase=phase, optimizer=optimizer, seed=seed, num_threads=1)
        batch = make_batch(spec, batch_size, seed)
        seen.update(features(spec, batch))
        found = check(bundle, batch)
        assert found.ok, found
        if backend == "tbe_int" and dtype == "float32":
            assert_within_quantisation(bundle, batch, seed)

    run()


def assert_within_quantisation(bundle, batch, seed):
    """Pooled rows differ from those of the float tables by no more than the rows that went into them may."""
    pooled = bundle.model.embedding(bundle.prepare(batch).lookups).detach().double().numpy()
    ends = np.cumsum([t.dim for t in bundle.spec.tables])
    for t, table in enumerate(bundle.spec.tables):
        weight = torch.empty(table.num_rows, table.dim)
        fill_table(weight, seed, t, 1)
        part = touched(table, batch.table(t), lambda rows, weight=weight: weight.numpy()[rows])
        rows = part.values.astype(np.float64)
        allowed = abs(part.pool) @ (quantisation_error(rows, table.row_type) + 1e-6 * np.abs(rows))
        assert (np.abs(pooled[:, ends[t] - table.dim : ends[t]] - part.pool @ rows) <= allowed).all()


def quantisation_error(rows, row_type):
    """The most by which each element may be off (u, D): half a step, and what scale and bias lose as float16.

    A row's step is its range over 255 or 15. Bias and scale are rounded to 11 bits; a bias rounded up leaves the least
    value below the first code, a scale rounded down the largest beyond the last, by as much as was rounded.
    """
    half = 2.0**-11
    if row_type == "float32":
        return np.zeros_like(rows)
    if row_type == "float16":
        return np.abs(rows) * half
    low, high = rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True)
    span, codes = high - low, 255 if row_type == "int8" else 15
    return np.broadcast_to(span / codes / 2 + (2 * span + 2 * np.abs(low)) * half, rows.shape)


@pytest.mark.parametrize(
    ("backend", "ran", "claimed"),
    [("tbe", "rowwise_adagrad", "sgd"), ("tbe", "sgd", "rowwise_adagrad"), ("bag", "sgd", "rowwise_adagrad")],
)
def test_a_row_updated_by_another_optimizer_is_caught(backend, ran, claimed):
    reason = backends.load(backend).available("cpu", "train_step", ran)
    if reason:
        pytest.skip(reason)
    spec = ModelSpec(name="m", variant="embedding", tables=(TableSpec(name="t", num_rows=50, dim=8, pooling_factor=3),))
    bundle, batch = build_model(spec, backend, phase="train_step", optimizer=ran), make_batch(spec, 9, 0)
    assert check(bundle, batch).ok
    found = check(dataclasses.replace(bundle, optimizer=claimed), batch)
    assert not found.ok
    assert "updated rows" in found.what


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
