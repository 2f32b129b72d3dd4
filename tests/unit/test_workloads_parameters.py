"""Parameters counted from built models, and the error that rows of fewer bits bring."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from bench.sweep_spec import make_case
from workloads import models
from workloads.batch import make_batch
from workloads.spec import ModelSpec

torch = pytest.importorskip("torch")

from workloads import rounding, steps, tables  # noqa: E402

NO_DENSE = {"num_dense": 0, "bottom_mlp": "", "top_mlp": "", "dim": 5}


def spec(preset: str, **settings: object) -> ModelSpec:
    model = make_case(preset, None, settings).model  # type: ignore[arg-type]
    assert model is not None
    return model


@pytest.mark.parametrize(
    ("model", "interaction"),
    [
        (spec("structure"), 0),
        (spec("structure", variant="fm_mlp", bottom_mlp=""), 0),
        (spec("structure", variant="fm", form="pairwise", **NO_DENSE), 0),
        (spec("structure", variant="poly2", **NO_DENSE), 6 * 4 * 4),
        (spec("structure_hashed"), 6000),
        (spec("structure_hashed", num_features=3), 3000),
        (spec("structure", variant="dcn", bottom_mlp=""), 3 * 2 * (4 * 16 + 13)),
        (spec("structure", variant="dcnv2", bottom_mlp="", cross_rank=2), 3 * (2 * 77 * 2 + 77)),
    ],
    ids=lambda v: v.name if isinstance(v, ModelSpec) else str(v),
)
def test_the_interactions_own_parameters_are_counted_from_the_module(model: ModelSpec, interaction: int) -> None:
    found = steps.parameter_counts(steps.build_model(model, "bag"))
    assert found["interaction"] == interaction
    assert sum(found.values()) == models.count_parameters(model)


def quantised(row_type: str) -> tuple[float | None, float]:
    """The error found, and that of the same table by hand."""
    model = spec("tiny", num_tables=1, num_rows=50, dim=8, row_type=row_type, pooling_factor=3)
    bundle = steps.build_model(model, "tbe_int", seed=3)
    batch = make_batch(model, 16, 0, 0)
    exact = torch.empty(50, 8)
    tables.fill_table(exact, 3, 0)
    stored = bundle.model.embedding.take_rows(0, np.arange(50))
    picked = batch.table(0).indices.reshape(16, 3)
    expected = exact.numpy().astype(np.float64)[picked].sum(1)
    error = np.linalg.norm(stored.astype(np.float64)[picked].sum(1) - expected) / np.linalg.norm(expected)
    return rounding.rounding_error(bundle, batch, 3), float(error)


@pytest.mark.fbgemm
@pytest.mark.skipif(importlib.util.find_spec("fbgemm_gpu") is None, reason="fbgemm-gpu is not installed")
def test_rounding_errors_are_against_the_float_tables_and_grow_with_fewer_bits() -> None:
    errors = []
    for row_type in ("float16", "int8", "int4"):
        found, by_hand = quantised(row_type)
        assert found == pytest.approx(by_hand, rel=1e-6)
        errors.append(by_hand)
    assert 0 < errors[0] < errors[1] < errors[2] < 0.2
    assert quantised("float32")[0] is None
