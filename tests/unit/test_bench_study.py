"""Fits by hand-computed numbers; claims that come out either way; the frontier by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import pytest

from bench.records import QualityTrial, RateTry, Record
from bench.study.by_quality import NEGLIGIBLE
from bench.study.claim import Claim
from bench.study.claims import DECIDERS, claims
from bench.study.frontier import COSTS, by_task, difference, estimate, frontier, learned, match
from bench.study.scaling import FIT_FROM, QUANTITIES, both_forms, fit, series, size, variant_name
from tests import sample_records, sample_structure, sample_trials
from tests.sample_trials import trial
from workloads.click_log import ClickLogSpec

RECORDS = sample_structure.records()


def decided(records: list[Record], trials: list[QualityTrial] | None = None) -> dict[str, Claim]:
    return {c.name: c for c in claims(records, trials or [])}


# Fits


def test_an_exact_power_law_is_found_with_a_closed_interval() -> None:
    law = fit([2, 4, 8, 16], [3 * n**1.5 for n in (2, 4, 8, 16)])
    assert law is not None
    assert (law.exponent, law.scale) == (pytest.approx(1.5), pytest.approx(3))
    assert law.high - law.low < 1e-6
    assert (law.points, law.least, law.most) == (4, 2, 16)
    assert law.at(32) == pytest.approx(3 * 32**1.5)


def test_slope_and_interval_by_hand() -> None:
    """ln N = 0, 1, 2 and ln y = 0, 1, 1: slope 1/2, residuals -1/6, 1/3, -1/6, so s^2 = 1/6, spread 2, t = 12.7062."""
    law = fit([1, math.e, math.e**2], [1, math.e, math.e])
    assert law is not None
    assert law.exponent == pytest.approx(0.5)
    assert law.scale == pytest.approx(math.exp(2 / 3 - 0.5))
    assert law.high - law.exponent == pytest.approx(12.7062 * math.sqrt(1 / 12), rel=1e-5)


@pytest.mark.parametrize(
    ("sizes", "values"), [([1, 2], [1, 2]), ([1, 1, 2], [1, 1, 2]), ([1, 2, 3], [1, 0, 3]), ([], [])]
)
def test_too_little_to_fit(sizes: list[float], values: list[float]) -> None:
    assert fit(sizes, values) is None


def test_pairs_are_quadratic_only_where_n_is_large() -> None:
    """Why fits start at 32: N(N-1)/2 over 4..256 has exponent 2.06, over 32..256 2.013."""
    sizes = [2**k for k in range(2, 9)]
    pairs = [n * (n - 1) / 2 for n in sizes]
    every, large = fit(sizes, pairs), fit(sizes[3:], pairs[3:])
    assert every is not None
    assert large is not None
    assert sizes[3] == FIT_FROM
    assert every.exponent > 2.04
    assert abs(large.exponent - 2) < 0.02


def test_series_hold_what_differs_in_the_number_of_features_alone() -> None:
    found = series(RECORDS)
    assert {s.variant for s in found} == {
        "poly2, block", "fm, pairwise", "fm, square of sum", "dlrm", "fm_mlp", "mlp",
    }  # fmt: skip
    assert all(s.sizes == list(sample_structure.SIZES) for s in found)
    assert series(sample_records.records()) == []


@pytest.mark.parametrize("changes", [{"weighted": True}, {"hot_share": 0.5}, {"lengths": "uniform"}])
def test_series_are_of_equal_tables(changes: dict[str, object]) -> None:
    def changed(record: Record) -> Record:
        model = record.case.model
        assert model is not None
        tables = tuple(msgspec.structs.replace(t, **changes) for t in model.tables)
        return msgspec.structs.replace(
            record, case=msgspec.structs.replace(record.case, model=msgspec.structs.replace(model, tables=tables))
        )

    found = series([*RECORDS, *map(changed, RECORDS)])
    assert len(found) == 2 * len(series(RECORDS))
    assert all(s.sizes == list(sample_structure.SIZES) for s in found)


def with_batch(record: Record, batch_size: int) -> Record:
    return msgspec.structs.replace(record, case=msgspec.structs.replace(record.case, batch_size=batch_size))


def test_series_of_one_name_are_told_apart() -> None:
    """By what they differ in, not by their sizes."""
    other = [with_batch(r, 512) for r in RECORDS if r.case.model and r.case.model.variant == "fm"]
    names = [s.name for s in series([*RECORDS, *[r for r in other if size(r) > 4]])]
    assert "dlrm" in names
    assert [n for n in names if n.startswith("fm, pairwise")] == ["fm, pairwise · B 128", "fm, pairwise · B 512"]


def test_both_forms_are_those_alike_in_all_else() -> None:
    pairwise = [r for r in RECORDS if r.case.model and variant_name(r.case.model) == "fm, pairwise"]
    others = [r for r in RECORDS if r not in pairwise]
    found = series([*[with_batch(r, 512) for r in pairwise], *pairwise, *others])
    forms = both_forms(found)
    assert forms is not None
    assert [s.name for s in forms] == ["fm, pairwise · B 128", "fm, square of sum"]
    assert both_forms(series([*[with_batch(r, 512) for r in pairwise], *others])) is None
    bare = [msgspec.structs.replace(r, trace=None) for r in RECORDS]
    assert both_forms(series(bare)) is None


def test_a_series_is_fitted_over_its_large_sizes() -> None:
    poly2 = next(s for s in series(RECORDS) if s.variant == "poly2, block")
    law = poly2.law("interaction_params")
    assert law is not None
    assert (law.least, law.most) == (32, 256)
    assert abs(law.exponent - 2) < 0.02
    few = series(RECORDS[:4])[0].law("interaction_params")
    assert few is not None
    assert (few.least, few.most) == (4, 32)


def test_every_quantity_is_none_for_a_bare_record() -> None:
    bare = sample_records.ended_badly()[0]
    assert [q.of(bare) for q in QUANTITIES] == [None] * len(QUANTITIES)


def test_a_variant_is_named_with_what_tells_it_apart() -> None:
    names = {variant_name(r.case.model) for r in RECORDS if r.case.model}
    assert {"poly2, block", "fm, pairwise", "fm, square of sum"} < names


# Claims about cost


def test_claims_of_a_run_that_bears_them_out() -> None:
    found = decided(RECORDS)
    assert {c.name: c.verdict for c in found.values()} == {
        "mf": "not measured",
        "poly2": "supported",
        "fm": "supported",
        "fm_forms": "supported",
        "free_interaction": "supported",
        "three_stages": "supported",
        "dense_interact": "not measured",
        "deep_network": "not measured",
        "second_order": "not measured",
    }
    assert "N^2.01" in found["poly2"].text
    assert "8.36M at N = 256" in found["poly2"].text
    assert dict(found["fm"].evidence)["second_order_params exponent"] == pytest.approx(1)


def test_a_slow_square_of_sum_is_not_linear() -> None:
    both = decided(sample_structure.records(fm_square_of_sum=1.7))["fm_forms"]
    assert both.verdict == "depends"
    neither = decided(sample_structure.records(fm_square_of_sum=1.7, fm_pairwise=1.2))["fm_forms"]
    assert neither.verdict == "not supported"


def test_two_forms_that_differ_are_not_the_same_sum() -> None:

    wrong = [msgspec.structs.replace(r, check=msgspec.structs.replace(r.check, max_error=1e-3)) for r in RECORDS]
    assert decided(wrong)["fm_forms"].verdict == "not supported"


def test_poly2_that_grows_linearly_contradicts_the_claim() -> None:
    flat = [sample_structure.record("poly2", n, 1.0, own=lambda _, n: 100 * n) for n in sample_structure.SIZES]
    assert decided(flat)["poly2"].verdict == "not supported"
    fast = [sample_structure.record("poly2", n, 1.0) for n in sample_structure.SIZES]
    assert decided(fast)["poly2"].verdict == "depends"


def test_an_interaction_with_parameters_contradicts_the_claims() -> None:
    heavy = [
        sample_structure.record(name, n, own=lambda _, n: n)
        for name in ("dlrm", "fm square_of_sum")
        for n in sample_structure.SIZES
    ]
    found = decided(heavy)
    assert found["free_interaction"].verdict == "not supported"
    assert found["fm"].verdict == "depends"


def test_the_pairs_of_an_interaction_are_counted_from_the_built_top_mlp() -> None:
    """A top MLP one input narrower than F(F-1)/2 and the dense features was built with a pair too few."""

    def narrower(record: Record) -> Record:
        assert record.case.model is not None
        assert record.parameters is not None
        fewer = record.parameters["top_mlp"] - record.case.model.top_mlp[0]
        return msgspec.structs.replace(record, parameters=record.parameters | {"top_mlp": fewer})

    found = decided(RECORDS)["free_interaction"]
    assert dict(found.evidence)["products as built"] == 257 * 256 / 2
    dots = [r for r in RECORDS if r.case.model and r.case.model.variant in ("dlrm", "fm_mlp")]
    assert decided([*dots[:-1], narrower(dots[-1])])["free_interaction"].verdict == "not supported"


def test_matrix_factorization_is_checked_against_its_inner_product() -> None:
    mf = sample_structure.record("mf", 2, 1.0)
    assert mf.check is not None
    assert decided([*RECORDS, mf])["mf"].verdict == "supported"
    wrong = msgspec.structs.replace(mf, check=msgspec.structs.replace(mf.check, max_error=1e-3))
    assert decided([*RECORDS, wrong])["mf"].verdict == "not supported"
    unchecked = msgspec.structs.replace(mf, check=None)
    assert decided([*RECORDS, unchecked])["mf"].verdict == "not measured"


def test_the_widened_top_mlp_is_told_beside_the_free_interaction() -> None:
    text = decided(RECORDS)["free_interaction"].text
    assert "every product is an input of the top MLP" in text
    assert "at N = 256" in text


def test_no_trace_no_verdict_on_time() -> None:

    bare = [msgspec.structs.replace(r, trace=None) for r in RECORDS]
    found = decided(bare)
    assert [found[n].verdict for n in ("poly2", "fm_forms", "three_stages")] == ["not measured"] * 3
    assert found["fm"].verdict == "supported"


def test_runs_of_other_kinds_have_no_claims() -> None:
    assert claims(sample_records.records(), []) == []


# Claims about quality


def test_deep_networks_are_inefficient_where_the_trials_say_so() -> None:
    found = decided([], sample_trials.trials(sample_trials.PLANTED, sample_trials.CONTROL))
    assert found["deep_network"].verdict == "supported"
    assert found["dense_interact"].verdict == "supported"
    assert "12 of 12 at equal forward FLOPs" in found["deep_network"].text
    assert "On the control log lower in 0 of 12." in found["deep_network"].text


def test_deep_networks_are_efficient_where_the_trials_say_that() -> None:
    upside = sample_trials.PLANTED | {"mlp": 0.455}
    assert decided([], sample_trials.trials(upside, sample_trials.CONTROL))["deep_network"].verdict == "not supported"


@pytest.mark.parametrize(
    "planted",
    [sample_trials.PLANTED | {"mlp": 0.478}, {k: v for k, v in sample_trials.PLANTED.items() if k != "dcnv2"}],
    ids=["some rivals worse", "a rival missing"],
)
def test_a_mixed_picture_depends(planted: dict[str, float]) -> None:
    assert decided([], sample_trials.trials(planted, sample_trials.CONTROL))["deep_network"].verdict == "depends"


def test_winning_on_the_control_too_is_not_about_interactions() -> None:
    control = sample_trials.CONTROL | {"mlp": 0.512}
    assert decided([], sample_trials.trials(sample_trials.PLANTED, control))["deep_network"].verdict == "depends"


def on_log(trials: list[QualityTrial], log: str, variant: str, losses: list[float]) -> list[QualityTrial]:
    """The trials with other log losses, by seed, of a variant at every budget on one log."""

    def changed(one: QualityTrial) -> QualityTrial:
        last = msgspec.structs.replace(one.curve[-1], log_loss=losses[one.seed])
        return msgspec.structs.replace(one, curve=(one.curve[0], last))

    return [changed(t) if (t.log, t.model.variant) == (log, variant) else t for t in trials]


def test_a_gain_on_the_control_that_scatters_is_not_absent() -> None:
    """On the control dlrm gains as much in the mean as on the planted log, too unevenly to be told from 0."""
    trials = sample_trials.trials(sample_trials.PLANTED, sample_trials.CONTROL)
    assert decided([], trials)["dense_interact"].verdict == "supported"
    scattered = on_log(trials, "control", "dlrm", [0.40, 0.44, 0.48])
    scattered = on_log(scattered, "control", "dlrm_cat", [0.48, 0.48, 0.48])
    found = decided([], scattered)["dense_interact"]
    assert "On the control log lower in 0 of 3." in found.text
    assert "exceeds that on the control in 0 of 3." in found.text
    assert found.verdict == "depends"


def test_the_control_is_that_of_the_same_log() -> None:
    """A control of another log says nothing of a planted one."""

    def logged(trials: list[QualityTrial], **fields: float) -> list[QualityTrial]:
        return [
            msgspec.structs.replace(t, click_log=ClickLogSpec(kind=t.log, num_features=6, num_rows=50, **fields))
            for t in trials
        ]

    planted = logged(sample_trials.trials(sample_trials.PLANTED, {}))
    control = sample_trials.trials({}, sample_trials.CONTROL)
    assert decided([], [*planted, *logged(control)])["dense_interact"].verdict == "supported"
    other = decided([], [*planted, *logged(control, bias=-2.0)])["dense_interact"]
    assert other.verdict == "depends"
    assert "no control log" in other.text


def test_without_a_control_log_nothing_is_supported() -> None:
    found = decided([], sample_trials.trials(sample_trials.PLANTED, {}))["deep_network"]
    assert found.verdict == "depends"
    assert "no control log" in found.text


def test_one_seed_says_nothing_of_scatter() -> None:
    found = decided([], sample_trials.trials(sample_trials.PLANTED, sample_trials.CONTROL, seeds=(0,)))
    assert {found[n].verdict for n in ("dense_interact", "deep_network", "second_order")} == {"not measured"}
    assert "one seed" in found["deep_network"].text


@pytest.mark.parametrize(
    ("higher", "verdict"),
    [({"dcnv2": 0.500, "deepfm": 0.502}, "supported"), ({"dcnv2": 0.460, "deepfm": 0.482}, "depends"),
     ({"dcn": 0.445, "dcnv2": 0.445, "deepfm": 0.445}, "not supported")],
)  # fmt: skip
def test_second_order_suffices_or_not(higher: dict[str, float], verdict: str) -> None:
    trials = sample_trials.trials(sample_trials.PLANTED | {"dcn": 0.500} | higher, {})
    found = decided([], trials)["second_order"]
    assert found.verdict == verdict
    assert "Not compared" not in found.text


def test_higher_orders_that_were_not_compared_are_named_and_not_beaten() -> None:
    """dcn never ran; deepfm is dearer than every dlrm."""
    trials = sample_trials.trials(sample_trials.PLANTED | {"dcnv2": 0.500, "deepfm": 0.502}, {})
    dear = [
        msgspec.structs.replace(t, flops_per_sample_forward=1e6) if t.model.variant == "deepfm" else t for t in trials
    ]
    found = decided([], dear)["second_order"]
    assert found.verdict == "depends"
    assert found.text.endswith("Not compared: dcn, deepfm.")


def test_not_telling_apart_is_not_support() -> None:
    """Scatter far above what counts as negligible: neither better nor surely not."""
    even = dict.fromkeys([*sample_trials.PLANTED, "dcn"], 0.47)
    trials = sample_trials.trials(even, {}, scatter=20 * NEGLIGIBLE)
    assert decided([], trials)["second_order"].verdict == "depends"


def at_rate(trials: list[QualityTrial], chosen: float, tried: Sequence[float]) -> list[QualityTrial]:
    rates = tuple(RateTry(learning_rate=rate, log_loss=0.5, train_s=1.0) for rate in tried)
    return [msgspec.structs.replace(t, learning_rate=chosen, rates=rates) for t in trials]


@pytest.mark.parametrize(
    ("chosen", "tried", "at_edge"),
    [(0.01, (0.01, 0.02), True), (0.02, (0.01, 0.02), True), (0.02, (0.01, 0.02, 0.04), False), (0.02, (0.02,), True)],
)
def test_a_rate_at_an_edge_of_the_grid_supports_nothing(chosen: float, tried: tuple[float, ...], at_edge: bool) -> None:
    planted = sample_trials.PLANTED | {"dcn": 0.500, "dcnv2": 0.500, "deepfm": 0.502, "mlp": 0.560}
    found = decided([], at_rate(sample_trials.trials(planted, dict.fromkeys(planted, 0.468)), chosen, tried))
    names = ("dense_interact", "deep_network", "second_order")
    assert {found[n].verdict for n in names} == {"depends" if at_edge else "supported"}
    assert all(("least or the largest" in found[n].text) == at_edge for n in names)


def test_every_claim_states_its_rule() -> None:
    found = claims(RECORDS, sample_trials.trials(sample_trials.PLANTED, sample_trials.CONTROL))
    assert len(found) == len(DECIDERS) == len({c.name for c in found})
    assert all(c.rule.startswith("Supported where") and c.text and c.statement.endswith(".") for c in found)


# Frontier


def test_mean_and_interval_over_seeds_by_hand() -> None:
    found = estimate([1.0, 2.0, 3.0])
    assert found.value == 2
    assert found.high - 2 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert not estimate([1.0]).known


def test_gap_is_to_bayes_on_the_same_samples() -> None:
    model = learned([trial("mlp", 0.5, seed=s) for s in (0, 1)])[0]
    assert model.gap is not None
    assert model.gap.value == pytest.approx(0.5 - sample_trials.BAYES)
    assert model.prior_gap == pytest.approx(sample_trials.PRIOR - sample_trials.BAYES)


def test_the_frontier_leaves_out_what_another_beats_in_both() -> None:
    made = learned(
        [trial("mlp", 0.50, flops=1e3), trial("fm", 0.48, flops=2e3), trial("dlrm", 0.49, flops=3e3),
         trial("dcnv2", 0.47, flops=4e3), trial("fm_mlp", 0.48, flops=2e3, budget=1e3)]
    )  # fmt: skip
    assert [m.model.variant for m in frontier(made, COSTS[0])] == ["mlp", "fm", "dcnv2"]


def test_a_match_has_at_least_the_cost_and_no_more_than_needed() -> None:
    made = learned([trial("mlp", 0.5, flops=f, budget=f, width=round(f)) for f in (1e3, 2e3, 9e3)])
    rival = learned([trial("fm", 0.48, flops=1.5e3)])[0]
    found = match(rival, made, COSTS[0])
    assert found is not None
    assert found.flops == 2e3
    assert match(learned([trial("fm", 0.48, flops=1e5)])[0], made, COSTS[0]) is None


def test_differences_are_paired_by_seed() -> None:
    """A seed's own luck, far larger than the difference, falls out."""
    luck = {0: 0.05, 1: -0.05, 2: 0.0}
    mlp = learned([trial("mlp", 0.5 + x, seed=s) for s, x in luck.items()])[0]
    fm = learned([trial("fm", 0.49 + x + 1e-4 * s, seed=s) for s, x in luck.items()])[0]
    found = difference(fm, mlp)
    assert found is not None
    assert found.value == pytest.approx(-0.0099)
    assert found.high < 0
    assert difference(fm, learned([trial("mlp", 0.5, seed=9)])[0]) is None


def test_models_of_different_logs_are_never_compared() -> None:
    wide = [trial("mlp", 0.5, seed=s) for s in (0, 1)]
    spec = msgspec.structs.replace(wide[0].model, tables=wide[0].model.tables[:2])
    narrow = [msgspec.structs.replace(trial("fm", 0.4, seed=s), model=spec) for s in (0, 1)]
    models = learned([*wide, *narrow])
    assert match(models[1], [models[0]], COSTS[0]) is None
    assert list(by_task(models)) == [f"planted log, {len(wide[0].model.tables)} features", "planted log, 2 features"]


LOG = ClickLogSpec(num_features=6, num_rows=50)
OTHER_LOGS = [
    {"pair_share": 0.25},
    {"active_share": 0.1},
    {"rank": 2},
    {"logit_std": 2.5},
    {"bias": -2.0},
    {"num_dense": 2},
]


@pytest.mark.parametrize("changes", OTHER_LOGS, ids=lambda changes: next(iter(changes)))
def test_logs_that_differ_in_any_field_are_different_tasks(changes: dict[str, float]) -> None:
    logs = [LOG, msgspec.structs.replace(LOG, **changes)]
    models = learned([msgspec.structs.replace(trial("mlp", 0.5), click_log=log) for log in logs])
    assert [len(m.trials) for m in models] == [1, 1]
    assert match(models[1], [models[0]], COSTS[0]) is None
    (field, value), words = next(iter(changes.items())), {"num_dense": "dense features"}
    first, second = by_task(models)
    assert second == f"planted log, 6 features, {words.get(field, field.replace('_', ' '))} {value:g}"
    assert first.rpartition(" ")[0] == second.rpartition(" ")[0]


def test_models_that_saw_more_samples_are_not_compared_with_those_that_saw_fewer() -> None:
    more = trial("mlp", 0.5)
    fewer = msgspec.structs.replace(more, curve=more.curve[:1])
    models = learned([more, fewer])
    assert list(by_task(models)) == [f"planted log, 6 features, trained samples {n}" for n in ("100,000", "50,000")]


def test_failed_trials_are_left_out() -> None:

    from bench.records import Outcome

    failed = msgspec.structs.replace(trial("mlp", 0.5), outcome=Outcome(status="failed", reason="no memory"), curve=())
    assert learned([failed]) == []
