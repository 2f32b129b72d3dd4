"""From TOML and flags to cases: which cases, in which order, and what a mistake is answered with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.commands.sweep import rough_step_s
from bench.plan import Surroundings, plan
from bench.records import Case
from bench.sections.paper import is_paper
from bench.study.scaling import variant_name
from bench.sweep_spec import AXES, cases, load_sweep, make_case, override, parse_flag, parse_sweep, sweep_names
from workloads.describe import memory_needed
from workloads.spec import SpecError, num_features

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


@pytest.mark.parametrize("name", sweep_names())
def test_every_named_sweep_plans_on_a_small_machine(name: str) -> None:
    """24 GiB: only what is larger is skipped, with the cure, and the rest is planned to take under ten minutes."""
    sweep = load_sweep(name)
    around = Surroundings(
        memory_available_bytes=24 * 2**30,
        unavailable=lambda case: None,
        memory_needed=lambda c: memory_needed(c.model, c.batch_size, c.phase, c.backend, c.dtype),  # type: ignore[arg-type]
        step_s=rough_step_s,
    )
    planned = plan(cases(sweep), sweep.limits, around)
    skipped = [p.skip_reason for p in planned if p.skip_reason]
    assert len({p.key for p in planned}) == len(planned)
    assert len(skipped) == (2 if name == "zoo" else 0)
    assert all("rows_scale" in reason for reason in skipped)
    assert sum(p.estimate_s for p in planned) < 600
    assert max(p.estimate_s for p in planned) < sweep.limits.timeout_s


def test_the_guide_names_every_axis() -> None:
    guide = (Path(__file__).parent.parent.parent / "docs" / "howto" / "sweep.md").read_text(encoding="utf-8")
    assert set(AXES) <= set(re.findall(r"\w+", guide))


def test_structure_has_every_variant_over_the_number_of_features() -> None:
    found = [c.model for c in cases(load_sweep("structure")) if c.phase == "forward" and c.model]
    by_variant: dict[str, set[int]] = {}
    for model in found:
        by_variant.setdefault(variant_name(model), set()).add(num_features(model))
    assert by_variant.pop("mf") == {2}
    assert all(sizes >= {4, 8, 16, 32, 64, 128, 256} for sizes in by_variant.values())
    assert set(by_variant) == {
        "poly2, block", "poly2, hashed", "fm, pairwise", "fm, square of sum", "fm_mlp", "mlp", "dlrm", "dlrm_cat",
        "dcn", "dcnv2, full rank", "dcnv2, rank 16", "deepfm",
    }  # fmt: skip


def test_paper_has_every_reading_of_what_the_paper_left_open() -> None:
    found = cases(load_sweep("paper"))
    assert all(is_paper(c) for c in found)
    open_ = {(c.phase, c.num_threads, c.backend, c.model.tables[0].lengths) for c in found if c.model}
    assert len(open_) == len(found) == 2 * 2 * 3 * 2


def test_a_variant_takes_its_networks_along() -> None:
    settings = {"variant": "fm", "num_dense": 0, "bottom_mlp": "", "top_mlp": "", "dim": 5, "num_features": 3}
    model = make_case("tiny", None, settings).model
    assert model is not None
    assert (model.name, model.variant, model.num_dense, model.bottom_mlp, model.top_mlp) == ("tiny-fm", "fm", 0, (), ())
    assert [t.dim for t in model.tables] == [5, 5, 5]
    wide = make_case("tiny", None, {"top_mlp": "32-16-1", "bottom_mlp": "7-8"}).model
    assert wide is not None
    assert (wide.name, wide.bottom_mlp, wide.top_mlp) == ("tiny", (7, 8), (32, 16, 1))


def test_hashed_pairs_grow_with_the_pairs() -> None:
    model = make_case("structure_hashed", None, {"num_features": 9}).model
    assert model is not None
    assert num_features(model) == 9
    assert (model.tables[-1].num_rows, model.tables[-1].pooling_factor) == (36_000, 36)
    assert {t.num_rows for t in model.tables[:-1]} == {100}


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
        ({"num_features": 0}, "num_features = 0"),
        ({"top_mlp": "64-x-1"}, "top_mlp = '64-x-1' is not allowed; widths joined by dashes"),
        ({"variant": "dlmr"}, "variant = 'dlmr' is not allowed; did you mean 'dlrm'"),
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
