"""What runs of a revision against itself add up to, from recorded logs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.gate import disturb, presets
from bench.gate.ledger import CONTROLS
from bench.gate.selftest_live import live_report, upper_bound
from bench.gate.simulation import resample
from tests.sample_gate import sample_manifest, suite_case
from tests.unit.test_gate_replay import two_stages

DEFAULT = presets.load("default")


def test_the_bound_is_that_of_the_binomial_law() -> None:
    assert upper_bound(0, 120) == pytest.approx(0.0246, abs=1e-4)
    assert upper_bound(0, 299) == pytest.approx(0.01, abs=1e-4)
    assert upper_bound(3, 3) == upper_bound(0, 0) == 1.0


def test_redrawn_signs_never_fail_more_than_nominal_and_find_what_was_added() -> None:
    sizes = [0.004, -0.011, 0.009, -0.002, 0.015, 0.007, -0.006, 0.012]
    null = resample(sizes, 4000, 1, DEFAULT, 1)
    assert (null.p1 <= 0.10).mean() < 0.115
    assert null.failed.mean() < 0.0075
    assert resample(sizes, 500, 1, DEFAULT, 1, 0.05).failed.mean() > 0.95


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
    assert case.power_frac["0"] < 0.01 < case.power_frac["0.1"] == 1.0
    slowed = live_report("power", [(manifest, two_stages("mine", 0.05))], 0.05, [])
    assert slowed.failed == 1
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
