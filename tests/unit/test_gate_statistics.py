"""The gate's pure statistics: tables, sample sizes, the simulated proof."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.cli import app
from bench.gate import naive_rules, presets, sample_size, signed_rank
from bench.gate.noise_models import LAWS
from bench.gate.selftest_stats import selftest
from bench.gate.simulation import two_stages
from workloads.spec import SpecError

DIFFERENCES = st.lists(st.integers(-40, 40).map(lambda i: i / 100), min_size=1, max_size=12)


def brute_force_tails(differences: list[float]) -> tuple[float, float]:
    signed = [d for d in differences if d != 0]
    ranks = signed_rank.doubled_ranks([abs(d) for d in signed])
    seen = sum(r for r, d in zip(ranks, signed, strict=True) if d > 0)
    sums = [sum(r for r, s in zip(ranks, p, strict=True) if s) for p in itertools.product((0, 1), repeat=len(signed))]
    return sum(s >= seen for s in sums) / len(sums), sum(s <= seen for s in sums) / len(sums)


@settings(max_examples=60, deadline=None)
@given(DIFFERENCES)
def test_p_values_are_those_of_enumeration_with_ties_and_zeros(differences: list[float]) -> None:
    assert tuple(signed_rank.tails(differences)) == brute_force_tails(differences)


@given(DIFFERENCES, st.floats(0.0, 1.0))
def test_more_slow_down_never_looks_less_like_one(differences: list[float], shift: float) -> None:
    moved = [d + shift for d in differences]
    if all(d != 0 for d in (*differences, *moved)):
        assert signed_rank.tails(moved).greater <= signed_rank.tails(differences).greater + 1e-12
    assert signed_rank.hodges_lehmann(moved) == pytest.approx(signed_rank.hodges_lehmann(differences) + shift)


@given(DIFFERENCES)
def test_swapping_sides_flips_the_sign(differences: list[float]) -> None:
    swapped = [-d for d in differences]
    assert signed_rank.tails(swapped).greater == signed_rank.tails(differences).less
    assert signed_rank.hodges_lehmann(swapped) == pytest.approx(-signed_rank.hodges_lehmann(differences))
    low, high = signed_rank.interval(differences, 0.9)
    assert signed_rank.interval(swapped, 0.9) == (-high, -low)


def test_midranks() -> None:
    assert signed_rank.doubled_ranks([3.0, 1.0, 1.0]) == [6, 3, 3]
    assert signed_rank.tails([0.0, 0.0]) == (1.0, 1.0)


def test_hodges_lehmann_by_hand() -> None:
    assert signed_rank.walsh_averages([1.0, 2.0, 6.0]) == [1.0, 1.5, 2.0, 3.5, 4.0, 6.0]
    assert signed_rank.hodges_lehmann([1.0, 2.0, 6.0]) == 2.75


def test_interval_has_the_ranks_of_the_printed_tables() -> None:
    """n = 8, one-sided 5 %: the critical sum is 5, so the 6th smallest Walsh average bounds."""
    values = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]
    averages = signed_rank.walsh_averages(values)
    assert signed_rank.interval(values, 0.9) == (averages[5], averages[-6])
    assert signed_rank.interval([1.0, 2.0], 0.9) == (-math.inf, math.inf)


def test_the_normal_law_continues_the_table_where_it_ends() -> None:
    plain, n = signed_rank.plain_counts(signed_rank.MAX_EXACT), signed_rank.MAX_EXACT
    doubled = [2 * rank for rank in range(1, n + 1)]
    for level in (0.01, 0.1):
        # The sum whose exact upper tail is the largest within the level.
        w, beyond = len(plain), 0
        while beyond + plain[w - 1] <= level * 2**n:
            w, beyond = w - 1, beyond + plain[w - 1]
        found = signed_rank.normal_tails(doubled, 2 * w)
        assert found.greater == pytest.approx(beyond / 2**n, rel=0.01)
        assert found.less == pytest.approx(1 - (beyond - plain[w]) / 2**n, rel=1e-3)
        assert signed_rank.normal_tails(doubled, sum(doubled) - 2 * w).less == found.greater
    for confidence in (0.9, 0.95):
        exact = signed_rank.outside_rank(n, confidence)
        assert abs(signed_rank.normal_outside_rank(n, confidence) - exact) <= 5


def test_the_normal_law_allows_for_ties() -> None:
    ranks = signed_rank.doubled_ranks([1.0] * 60 + [float(i) for i in range(2, 62)])
    counts = signed_rank.rank_sum_counts(tuple(sorted(ranks)))
    w, beyond = len(counts), 0
    while beyond + counts[w - 1] <= 0.01 * 2 ** len(ranks):
        w, beyond = w - 1, beyond + counts[w - 1]
    assert signed_rank.normal_tails(ranks, w).greater == pytest.approx(beyond / 2 ** len(ranks), rel=0.04)


def test_many_runs_put_together_are_judged_without_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed_rank, "rank_sum_counts", lambda ranks: pytest.fail("a table of so many takes minutes"))
    values = np.random.default_rng(4).normal(0.12, 1, 1100).tolist()
    found, mirrored = signed_rank.tails(values), signed_rank.tails([-v for v in values])
    assert (found.greater, found.less) == (mirrored.less, mirrored.greater)
    assert 0 < found.greater < found.less < 1
    low, high = signed_rank.interval(values, 0.95)
    assert low < signed_rank.hodges_lehmann(values) < high
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(1100), rel=0.2)
    assert signed_rank.tails([1.0] * 1100).greater < 1e-200


def test_rows_agree_with_one_by_one() -> None:
    rows = np.random.default_rng(3).normal(0.1, 1, (50, 9))
    greater, less = signed_rank.tails_of_rows(rows)
    for row, more, less_ in zip(rows.tolist(), greater, less, strict=True):
        assert tuple(signed_rank.tails(row)) == pytest.approx((more, less_))
    assert signed_rank.hodges_lehmann_of_rows(rows).tolist() == pytest.approx(
        [signed_rank.hodges_lehmann(r) for r in rows.tolist()]
    )


def test_sample_sizes_are_label_blind_and_grow_with_noise() -> None:
    preset = presets.load("default")
    quiet, loud = [0.01, -0.02, 0.015, 0.01], [0.04, -0.06, 0.05, -0.045]
    assert sample_size.stage1_epochs(quiet, preset) == 8
    assert sample_size.stage1_epochs(quiet, preset) == sample_size.stage1_epochs([-d for d in quiet], preset)
    assert sample_size.stage1_epochs(loud, preset) == 16
    assert sample_size.stage2_epochs(loud, preset, 40) == 32


def test_levels_and_least_epochs() -> None:
    preset = presets.load("default")
    assert sample_size.confirm_level(preset, 40) == pytest.approx(0.0025)
    assert sample_size.least_epochs(0.0025) == 9
    assert sample_size.least_epochs(0.5) == 1


def test_settings_that_could_never_reject_are_refused() -> None:
    eight = presets.changed(presets.load("default"), {"n2": [8, 8]})
    with pytest.raises(SpecError, match="at least 9 epochs: with 40 cases"):
        sample_size.require_resolution(eight, 40)
    sample_size.require_resolution(eight, 10)
    three = presets.changed(presets.load("default"), {"n1": [3, 8]})
    with pytest.raises(SpecError, match="n1"):
        sample_size.require_resolution(three, 1)
    for preset in presets.PRESETS.values():
        sample_size.require_resolution(preset, 40)


@pytest.mark.parametrize(
    "changes", [{"n1": [9, 8]}, {"pairs": 3}, {"family_error": 0}, {"block_s": 0}, {"pairs": "x"}, {"nn": 1}]
)
def test_bad_settings_are_named(changes: dict[str, object]) -> None:
    with pytest.raises(SpecError, match=next(iter(changes))):
        presets.changed(presets.load("default"), changes)


OUT_OF_RANGE = {
    "confidence": (0.49, 1.0, 95.0, math.nan),
    "max_excluded_frac": (-0.01, 1.01, math.nan),
    "floor_s": (-1e-9, math.inf, math.nan),
    "min_effect_frac": (-0.01, 0.05, math.inf, math.nan),
    "block_s": (0.0, -1.0, 10.1, math.inf, math.nan),
    "pairs": (0, -2, 10_002),
    "family_error": (1.0, math.nan),
}


@pytest.mark.parametrize(("name", "value"), [(name, v) for name, values in OUT_OF_RANGE.items() for v in values])
def test_settings_that_crash_late_or_let_nothing_fail_are_refused(name: str, value: float) -> None:
    with pytest.raises(SpecError, match=f"--set {name} = "):
        presets.changed(presets.load("default"), {name: value})


def test_the_ends_of_the_ranges_are_allowed() -> None:
    ends = {
        "confidence": 0.5,
        "max_excluded_frac": 1,
        "floor_s": 0,
        "min_effect_frac": 0,
        "block_s": 10,
        "pairs": 10_000,
    }
    assert presets.changed(presets.load("default"), dict(ends)).confidence == 0.5


def test_the_statistics_hold_under_five_laws_of_noise_and_naive_rules_do_not() -> None:
    report = selftest(seed=0)
    assert report.null_cases == 20_000
    assert [f.what for f in report.findings if not f.ok] == []
    assert {r.law for r in report.rules} == set(LAWS)
    gate = [r for r in report.rules if r.rule == "this gate"]
    naive = [r for r in report.rules if r.rule in naive_rules.RULES]
    assert max(r.any_of_40_frac for r in gate) < 0.03
    assert max(r.any_of_40_frac for r in naive if r.rule == "threshold 5 %") > 0.9
    assert all(r.found_frac < 0.5 for r in naive if "rerun" in r.rule)
    assert min(r.found_frac for r in gate) > 0.9


def test_a_broken_table_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed_rank, "rank_sum_counts", lambda ranks: (1,) * (sum(ranks) + 1))
    from bench.gate.selftest_stats import table_findings

    assert not any(f.ok for f in table_findings())


def test_selftest_prints_one_document_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "stats.json"
    assert app(["selftest", "stats", "--json", "--out", str(out)], standalone_mode=False) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert json.loads(out.read_text())["findings"] == told["findings"]
    with pytest.raises(SpecError, match="stats"):
        app(["selftest", "stat"], standalone_mode=False)


@pytest.mark.parametrize(("preset", "sd"), [("quick", 0.01), ("quick", 0.03), ("default", 0.01), ("default", 0.03)])
@pytest.mark.parametrize("step_s", [math.inf, 0.4e-3])
def test_what_a_run_is_said_to_find_it_finds(preset: str, sd: float, step_s: float) -> None:
    """Normal differences slowed by just that much: found in 93 % at the least; and half of it far less often."""
    chosen, chance = presets.load(preset), np.random.default_rng(5)
    said = sample_size.detectable_frac(sd, chosen, 8, step_s)

    def found(change_frac: float) -> float:
        shift = math.log1p(change_frac)
        seen = two_stages(lambda rows, epochs: shift + chance.normal(0, sd, (rows, epochs)), 1500, floored, 8)
        return float(seen.failed.mean())

    # The simulation knows the minimum effect and no floor, which for a case of one step time is the same thing.
    floored = msgspec.structs.replace(chosen, min_effect_frac=math.expm1(sample_size.least_change(chosen, step_s)))
    assert found(said) >= 0.93
    assert found(said / 2) <= 0.6
