"""From TOML and flags to cases: which cases, in which order, and what a mistake is answered with."""

from __future__ import annotations

import pytest

from bench.records import Case
from bench.sweep_spec import cases, load_sweep, make_case, override, parse_flag, parse_sweep, sweep_names
from workloads.spec import SpecError

TEXT = """
description = "two grids that share a case"
[limits]
budget_s = 0.5
[[grid]]
preset = "tiny"
[grid.set]
backend = "bag"
[grid.axes]
dim = [4, 8]
batch_size = [1, 2]
[[grid]]
preset = "tiny"
[grid.axes]
backend = ["bag", "tbe"]
batch_size = [2]
"""


def resolved(**changes: object) -> tuple[Case, ...]:
    return cases(override(parse_sweep(TEXT, "t.toml", "t"), changes.pop("axes", {}), changes))  # type: ignore[arg-type]


def shape(case: Case) -> tuple[object, ...]:
    assert case.model is not None
    return (case.model.tables[0].dim, case.batch_size, case.backend)


def test_the_union_of_the_grids_has_each_case_once_in_order() -> None:
    assert [shape(c) for c in resolved()] == [
        (4, 1, "bag"), (4, 2, "bag"), (8, 1, "bag"), (8, 2, "bag"), (8, 2, "tbe"),
    ]  # fmt: skip


def test_dim_takes_the_bottom_mlp_along() -> None:
    model = resolved()[0].model
    assert model is not None
    assert model.bottom_mlp[-1] == 4


def test_a_flag_axis_replaces_an_axis_and_a_setting() -> None:
    assert {shape(c)[2] for c in resolved(axes={"backend": ["fused_bag"]})} == {"fused_bag"}
    assert {shape(c)[0] for c in resolved(axes={"dim": [2]})} == {2}


def test_a_setting_fixes_an_axis() -> None:
    assert {shape(c)[1] for c in resolved(batch_size=7)} == {7}


def test_a_setting_may_be_a_limit() -> None:
    assert override(parse_sweep(TEXT, "t.toml", "t"), {}, {"budget_s": 3}).limits.budget_s == 3.0


@pytest.mark.parametrize("name", sweep_names())
def test_every_named_sweep_resolves_and_says_what_it_is(name: str) -> None:
    sweep = load_sweep(name)
    assert sweep.description
    assert cases(sweep)


def test_quick_covers_what_it_promises() -> None:
    found = cases(load_sweep("quick"))
    models = [c.model for c in found if c.model is not None]
    assert len(found) >= 24
    assert {c.phase for c in found} == {"forward", "train_step"}
    assert {c.backend for c in found} == {"bag", "fused_bag", "tbe"}
    assert len({m.tables[0].dim for m in models}) >= 3
    assert min(m.table_bytes for m in models) < 2**24 < 2**29 < max(m.table_bytes for m in models)


def test_keys_tell_cases_apart_and_are_stable() -> None:
    case = make_case("tiny", None, {"batch_size": 4})
    assert case.key() == make_case("tiny", None, {"batch_size": 4}).key()
    others = [
        make_case("tiny", None, {"batch_size": 4, name: value})
        for name, value in (("seed", 1), ("backend", "tbe"), ("num_rows", 5), ("exponent", 1.2), ("huge_pages", False))
    ]
    assert len({case.key(), *(c.key() for c in others)}) == 6


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("dim=4,8", ("dim", [4, 8])),
        ("exponent=1.05", ("exponent", [1.05])),
        ("backend=tbe", ("backend", ["tbe"])),
        ("huge_pages=true,false", ("huge_pages", [True, False])),
        ("num_rows=1_000_000", ("num_rows", [1_000_000])),
    ],
)
def test_flags_are_read_as_toml_would(flag: str, expected: tuple[str, list[object]]) -> None:
    assert parse_flag(flag, "--axis") == expected


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 0}, "batch_size = 0"),
        ({"batch_size": "many"}, "batch_size = 'many'"),
        ({"phase": "train"}, "phase = 'train' is not allowed; did you mean 'train_step'"),
        ({"row_type": "fp32"}, "row_type = 'fp32' is not allowed; .*known: float32, float16, int8"),
        ({"dtype": 3}, "dtype = 3 is not allowed"),
        ({"device": "gpu"}, "device = 'gpu'"),
        ({"num_threads": -1}, "num_threads = -1"),
        ({"num_tables": 0}, "num_tables = 0"),
        ({"rows_scale": 0}, "rows_scale = 0"),
        ({"pooling_factor": 1.5}, "pooling_factor = 1.5"),
    ],
)
def test_a_bad_value_is_named(settings: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        make_case("tiny", None, settings)  # type: ignore[arg-type]


def test_rows_scale_is_recorded_and_shrinks_every_table() -> None:
    model = make_case("paper", None, {"rows_scale": 0.01}).model
    assert model is not None
    assert (model.rows_scale, {t.num_rows for t in model.tables}) == (0.01, {10_000})


def test_a_preset_asked_for_as_a_sweep_says_what_to_do() -> None:
    with pytest.raises(SpecError, match="that is a preset"):
        load_sweep("kaggle")


def test_user_code_needs_a_file_and_a_function() -> None:
    with pytest.raises(SpecError, match=r"path\.py:function"):
        make_case(None, "steps.py", {})
    with pytest.raises(SpecError, match="there is no file"):
        make_case(None, "nowhere.py:step", {})
