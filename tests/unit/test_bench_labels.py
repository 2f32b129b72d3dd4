"""Every axis that a sweep takes tells cases apart: in their names, and in which of them are held beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from bench.records import Case, Record
from bench.reporting.labels import axes_of, labels, slices, varying
from bench.sweep_spec import AXES, make_case
from tests import sample_records
from workloads.spec import Captured

FM = {"preset": "structure", "variant": "fm", "num_dense": 0, "bottom_mlp": "", "top_mlp": "", "dim": 17}
CROSS = {"preset": "structure", "variant": "dcnv2", "bottom_mlp": ""}
TWO: dict[str, tuple[Any, Any]] = {
    "preset": ("tiny", "structure"),
    "batch_size": (1, 2),
    "backend": ("bag", "tbe"),
    "device": ("cpu", "cuda"),
    "dtype": ("float32", "bfloat16"),
    "phase": ("forward", "train_step"),
    "execution": ("eager", "compile"),
    "optimizer": ("sgd", "adam"),
    "num_threads": (1, 2),
    "cache_mode": ("hot", "cold"),
    "allocator": ("pinned", "default"),
    "huge_pages": (True, False),
    "seed": (0, 1),
    "placement": ("device", "host"),
    "cache_load_factor": (0.1, 0.2),
    "tf32": (False, True),
    "affinity": ("", "0"),
    "interop_threads": (0, 1),
    "wait_policy": ("default", "active"),
    "flush_denormal": (False, True),
    "matmul_precision": ("highest", "medium"),
    "index_dtype": ("int64", "int32"),
    "bounds_check": ("none", "fatal"),
    "inference_mode": (False, True),
    "num_rows": (100, 200),
    "dim": (4, 8),
    "pooling_factor": (1, 2),
    "pooling": ("sum", "mean"),
    "indices": ("uniform", "zipf"),
    "lengths": ("fixed", "uniform"),
    "weighted": (False, True),
    "row_type": ("float32", "int8"),
    "exponent": (1.05, 1.5),
    "shift": (0, 10),
    "hot_rows": (100, 5),
    "hot_share": (0.9, 0.5),
    "reuse": (0.5, 0.2),
    "working_set": (1024, 16),
    "length_spread": (1.0, 2.0),
    "num_tables": (2, 3),
    "num_features": (2, 3),
    "rows_scale": (1, 0.5),
    "variant": ("dlrm", "mlp"),
    "num_dense": (4, 5),
    "bottom_mlp": ("16-8", "32-8"),
    "top_mlp": ("16-1", "32-1"),
    "interaction": ("dot", "cat"),
    "interaction_self": (False, True),
    "cross_layers": (2, 3),
    "cross_rank": (0, 4),
    "form": ("", "pairwise"),
    "replay": ("", "a/day.pt"),
    "remap": (False, True),
}
AROUND: dict[str, dict[str, Any]] = {
    "optimizer": {"phase": "train_step"},
    "placement": {"device": "cuda"},
    "cache_load_factor": {"device": "cuda", "placement": "managed_caching"},
    "tf32": {"device": "cuda"},
    "cross_layers": CROSS,
    "cross_rank": CROSS,
    "form": FM,
    "remap": {"replay": "a/day.pt"},
}
"""What else an axis needs to mean something."""


def made(settings: Mapping[str, Any]) -> Case:
    """A case; files to replay are named and not read."""
    plain = {name: value for name, value in settings.items() if name not in ("replay", "remap")}
    case = make_case(None, None, {"preset": "tiny"} | plain)
    file = settings.get("replay", "")
    digest = "0" * 32 if file.startswith("a/") else "1" * 32
    captured = Captured(digest=digest, samples=9, tables=4) if file else None
    assert case.model is not None
    model = msgspec.structs.replace(case.model, replay=file, remap=settings.get("remap", False), captured=captured)
    return msgspec.structs.replace(case, model=model)


def records(*cases: Case) -> list[Record]:
    base = sample_records.record(sample_records.scaling_cases()[0])
    return [msgspec.structs.replace(base, case=case, key=case.key()) for case in cases]


def crossed(axis: str, first: Any, second: Any) -> tuple[str, list[Record]]:
    """Both values of an axis at both values of another one, whose short name comes first."""
    other, field, both = ("seed", "seed", (0, 1)) if axis == "batch_size" else ("batch", "batch_size", (4, 8))
    found = [made(AROUND.get(axis, {}) | {axis: value, field: one}) for value in (first, second) for one in both]
    return other, records(*found)


def test_no_axis_is_forgotten() -> None:
    assert set(TWO) == set(AXES)


@pytest.mark.parametrize("axis", AXES)
def test_cases_that_differ_in_an_axis_have_names_of_their_own_and_are_not_taken_for_alike(axis: str) -> None:
    other, found = crossed(axis, *TWO[axis])
    assert len({r.key for r in found}) == 4
    assert len(set(labels(found).values())) == 4
    groups = slices(found, (other,))
    assert [len(g) for g in groups] == [2, 2]
    for group in groups:
        assert set(varying([r.case for r in group])) - {"rows_scale"} == {other}


def test_files_of_one_name_are_told_apart_by_their_content() -> None:
    other, found = crossed("replay", "a/day.pt", "b/day.pt")
    assert len(set(labels(found).values())) == 4
    assert len(slices(found, (other,))) == 2


def test_what_belongs_to_a_model_is_said_by_its_name_alone() -> None:
    found = [made({"preset": name}) for name in ("tiny", "structure")]
    assert axes_of(found[0])["top MLP"] != axes_of(found[1])["top MLP"]
    assert "top MLP" not in varying(found)
    assert "bottom MLP" not in varying([made({"interaction": kind}) for kind in ("dot", "cat")])
    assert varying([made({"top_mlp": widths}) for widths in ("16-1", "32-1")]) == ["top MLP"]


def test_the_bottom_mlp_that_ends_in_the_dim_is_no_difference_beside_the_dim() -> None:
    found = records(*(made({"dim": dim}) for dim in (4, 8)))
    assert len(slices(found, ("dim",))) == 1
    assert varying([r.case for r in found]) == ["dim"]


def test_a_model_whose_tables_differ_says_so() -> None:
    assert axes_of(made({}))["indices"] == "mixed"
    assert axes_of(made({"indices": "zipf"}))["indices"] == "zipf"
