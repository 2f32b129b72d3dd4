"""What runs of a revision against itself add up to, from recorded logs."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest

from bench.gate import disturb, presets
from bench.gate.decide import CaseData, decide, flagged
from bench.gate.ledger import CONTROLS
from bench.gate.redraw import EFFECTS_FRAC, Recorded, judge, redraw
from bench.gate.sample_size import stage1_epochs, stage2_epochs
from bench.gate.selftest_live import live_report, upper_bound
from tests.sample_gate import sample_manifest, suite_case
from tests.unit.test_gate_replay import two_stages

DEFAULT, QUICK = presets.load("default"), presets.load("quick")


def test_the_bound_is_that_of_the_binomial_law() -> None:
    assert upper_bound(0, 120) == pytest.approx(0.0246, abs=1e-4)
    assert upper_bound(0, 299) == pytest.approx(0.01, abs=1e-4)
    assert upper_bound(3, 3) == upper_bound(0, 0) == 1.0


def recorded(differences: list[float], preset: presets.Preset = QUICK, step_s: float = 1e-2) -> Recorded:
    return Recorded(differences=tuple(differences), base_step_s=step_s, preset=preset)


def noise(number: int, sd: float, seed: int) -> list[float]:
    chance = random.Random(seed)
    return [chance.gauss(0, sd) for _ in range(number)]


def test_redrawn_signs_never_fail_more_than_nominal_and_find_what_was_added() -> None:
    cases = {f"c{n}": recorded(noise(120, 0.02, n)) for n in range(8)}
    found = redraw(cases, 4000, 1)
    assert (found.draws, found.epochs, found.chunks, found.epochs_per_chunk) == (4000, 120, 7, 16)
    assert found.any_frac["0"] < QUICK.family_error
    assert all(o[0].detected_frac < 0.0075 for o in found.cases.values())
    assert found.any_frac["0.1"] == 1.0
    for outcomes in found.cases.values():
        assert [o.effect_frac for o in outcomes] == list(EFFECTS_FRAC)
        assert outcomes[-1].detected_frac > 0.95
        for o in outcomes:
            assert o.detected_frac + o.inconclusive_frac + o.passed_frac == pytest.approx(1)
    few = redraw({"c": recorded(noise(10, 0.01, 1))}, 500, 1)
    assert (few.chunks, few.epochs) == (0, 10)


def test_noise_too_large_for_a_verdict_is_inconclusive_not_passed() -> None:
    (outcomes,) = redraw({"c": recorded(noise(64, 0.4, 3))}, 1000, 1, (0.0, 0.05)).cases.values()
    assert all(o.inconclusive_frac > 0.9 for o in outcomes)


@pytest.mark.parametrize("preset", [QUICK, DEFAULT])
def test_a_redrawn_run_is_judged_as_the_gate_judges_it(preset: presets.Preset) -> None:
    """Row by row: many runs at once must decide exactly as one run does."""
    chance = np.random.default_rng(5)
    rows = chance.normal(0.03, 0.03, (300, preset.n1[1] + preset.n2[1]))
    case = recorded([], preset)
    failed, passed = judge(rows, case, 8)
    for row, was_failed, was_passed in zip(rows.tolist(), failed, passed, strict=True):
        verdict = decide(whole(row, preset), preset, 8)
        assert (verdict.status == "REGRESSED") == was_failed
        assert (verdict.status in ("PASS", "IMPROVED")) == was_passed
    assert 0 < failed.mean() < 1


def whole(row: list[float], preset: presets.Preset) -> CaseData:
    """The epochs that a run would take of this row."""
    first = row[: stage1_epochs(row[: preset.n1[0]], preset)]
    rest = row[preset.n1[1] :]
    second = rest[: stage2_epochs(first, preset, 8)] if flagged(first, preset) else []
    return CaseData(case="c", stage1=tuple(first), stage2=tuple(second), base_step_s=1e-2)


def test_runs_are_put_together() -> None:
    manifest = sample_manifest(cases=(suite_case("mine"),))
    report = live_report("aa", [(manifest, two_stages("mine", 0.0))] * 2, 0.0, [])
    assert (report.runs, report.judged, report.failed) == (2, 2, 0)
    assert report.failed_at_most_frac == pytest.approx(0.776, abs=1e-3)
    (case,) = report.cases
    assert case.epochs == 40
    assert case.low_frac is not None
    assert case.high_frac is not None
    assert case.low_frac <= case.bias_frac <= case.high_frac
    assert report.gate_s == (201.0, 201.0)
    assert report.failures == ()
    assert report.redrawn is not None
    assert (report.redrawn.epochs, report.redrawn.chunks, report.redrawn.draws) == (16, 0, 10_000)
    assert report.redrawn.any_frac["0"] < 0.01 < report.redrawn.any_frac["0.1"] == 1.0
    slowed = live_report("power", [(manifest, two_stages("mine", 0.05))], 0.05, [])
    assert slowed.failed == 1
    assert slowed.redrawn is None
    assert "slower, confirmed on" in slowed.failures[0]
    assert slowed.cases[0].bias_frac == pytest.approx(0.05, abs=0.01)
    assert CONTROLS[0] not in {c.case for c in slowed.cases}


def test_a_quota_is_put_on_and_taken_off_again() -> None:
    before = Path("/proc/self/cgroup").read_text()
    with disturb.quota() as told:
        if told is None:
            pytest.skip("no CPU control group can be made here")
        assert f"dlrm-bench-{os.getpid()}" in Path("/proc/self/cgroup").read_text()
    assert f"dlrm-bench-{os.getpid()}" not in Path("/proc/self/cgroup").read_text()
    assert before.count("\n") == Path("/proc/self/cgroup").read_text().count("\n")


def test_the_neighbour_ends_with_the_block() -> None:
    with disturb.neighbour() as told:
        assert "30 %" in told
