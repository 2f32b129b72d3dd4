"""Verdicts from differences of a fake clock's epochs."""

from __future__ import annotations

import math
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import Exit
from bench.gate import presets
from bench.gate.decide import CaseData, decide, invalidity, judge_control, void, with_counters
from bench.gate.verdict import CaseVerdict, CounterChange, GateReport, Reason, Status, exit_code, headline

DEFAULT = presets.load("default")


def epochs(change_frac: float, sd: float, n: int, seed: int = 1) -> tuple[float, ...]:
    chance = random.Random(seed)
    return tuple(math.log1p(change_frac) + chance.gauss(0, sd) for _ in range(n))


def data(
    change_frac: float = 0.0, sd: float = 0.01, n1: int = 8, n2: int = 12, base_step_s: float = 1e-2, seed: int = 1
) -> CaseData:
    return CaseData(
        case="c",
        stage1=epochs(change_frac, sd, n1, seed),
        stage2=epochs(change_frac, sd, n2, seed + 1),
        base_step_s=base_step_s,
    )


def test_a_regression_is_found_and_told() -> None:
    found = decide(data(0.10), DEFAULT, 40)
    assert found.status == "REGRESSED"
    assert "% slower, confirmed on 12 new epochs (p = 0.00024" in found.reason.message
    assert found.head_step_s == pytest.approx(0.011, rel=0.02)


def test_an_improvement_is_the_mirror() -> None:
    assert decide(data(-0.10), DEFAULT, 40).status == "IMPROVED"


def test_nothing_changed_is_a_pass_with_what_it_excludes() -> None:
    found = decide(msgspec.structs.replace(data(0.0, sd=0.008, seed=5), stage2=()), DEFAULT, 40)
    assert (found.status, found.reason.code) == ("PASS", "excluded")
    assert found.detectable_frac == pytest.approx(0.025, abs=0.01)


def test_noise_that_hides_the_target_is_inconclusive_not_a_pass() -> None:
    found = decide(msgspec.structs.replace(data(0.0, sd=0.2, seed=3), stage2=()), DEFAULT, 40)
    assert (found.status, found.reason.code) == ("INCONCLUSIVE", "noise")


def test_a_flag_without_new_epochs_never_fails() -> None:
    flagged_only = msgspec.structs.replace(data(0.5), stage2=())
    assert decide(flagged_only, DEFAULT, 40).reason.code == "budget"
    eight = msgspec.structs.replace(data(0.5), stage2=epochs(0.5, 0.01, 8))
    assert decide(eight, DEFAULT, 40).status == "INCONCLUSIVE"


def test_stage_2_alone_decides() -> None:
    unlucky = msgspec.structs.replace(data(0.10), stage2=epochs(0.0, 0.01, 12, seed=9))
    assert decide(unlucky, DEFAULT, 40).status == "PASS"


def test_only_what_stage_1_flagged_can_be_confirmed() -> None:
    """Else a false failure would have two doors to stage 2, and the family error be twice what is promised."""
    faster_then_slower = msgspec.structs.replace(data(-0.10), stage2=epochs(0.10, 0.01, 12))
    assert decide(faster_then_slower, DEFAULT, 40).reason.code == "not_confirmed"
    slower_then_faster = msgspec.structs.replace(data(0.10), stage2=epochs(-0.10, 0.01, 12))
    assert decide(slower_then_faster, DEFAULT, 40).status == "PASS"
    chance = random.Random(0)
    cases, failed, m = 3000, 0, 5
    for _ in range(cases):
        first, second = ([chance.gauss(0, 0.03) for _ in range(n)] for n in (8, 12))
        found = decide(CaseData(case="c", stage1=tuple(first), stage2=tuple(second), base_step_s=1e-2), DEFAULT, m)
        failed += found.status == "REGRESSED"
    rate, allowed = failed / cases, DEFAULT.family_error / m
    assert rate <= allowed + 3 * math.sqrt(allowed / cases)


def test_small_effects_never_fail() -> None:
    assert decide(data(0.015, sd=0.001), DEFAULT, 40).status == "PASS"
    tiny = decide(data(0.10, sd=0.001, base_step_s=5e-6), DEFAULT, 40)
    assert (tiny.status, tiny.reason.code) == ("PASS", "below_floor")


def test_too_many_excluded_pairs_decide_nothing() -> None:
    found = decide(msgspec.structs.replace(data(0.5), excluded_frac=0.3), DEFAULT, 40)
    assert (found.status, found.reason.code) == ("INCONCLUSIVE", "disturbed")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_an_error(bad: float) -> None:
    for broken in (
        msgspec.structs.replace(data(), stage1=(*data().stage1, bad)),
        msgspec.structs.replace(data(), stage2=(bad,)),
        msgspec.structs.replace(data(), base_step_s=bad),
    ):
        found = decide(broken, DEFAULT, 40)
        assert (found.status, found.reason.code) == ("ERROR", "not_finite")
    assert decide(CaseData(case="c", stage1=()), DEFAULT, 1).reason.code == "empty"


@given(st.floats(-0.3, 0.3), st.integers(0, 10_000))
def test_swapping_sides_swaps_regressed_and_improved(change_frac: float, seed: int) -> None:
    forward = data(change_frac, sd=0.02, seed=seed)
    backward = msgspec.structs.replace(
        forward, stage1=tuple(-d for d in forward.stage1), stage2=tuple(-d for d in forward.stage2)
    )
    ahead, behind = decide(forward, DEFAULT, 4), decide(backward, DEFAULT, 4)
    assert (ahead.status == "REGRESSED") == (behind.status == "IMPROVED")
    assert (ahead.status == "IMPROVED") == (behind.status == "REGRESSED")


@given(st.integers(0, 10_000))
def test_a_larger_change_never_turns_red_to_green(seed: int) -> None:
    statuses = [decide(data(c, sd=0.01, seed=seed), DEFAULT, 4).status for c in (0.0, 0.05, 0.2, 0.5)]
    first_red = statuses.index("REGRESSED")
    assert set(statuses[first_red:]) == {"REGRESSED"}


def test_a_null_control_that_differs_makes_the_run_invalid() -> None:
    quiet = judge_control(data(0.0, sd=0.005, seed=4), DEFAULT)
    moved = judge_control(data(0.06, sd=0.005), DEFAULT)
    assert quiet.status == "PASS"
    assert invalidity([quiet], 0.0, DEFAULT) == ()
    (reason,) = invalidity([quiet, moved], 0.0, DEFAULT)
    assert reason.code == "control"
    assert invalidity([quiet], 0.3, DEFAULT)[0].code == "disturbed"
    assert judge_control(CaseData(case="c", stage1=()), DEFAULT).status == "ERROR"


def test_an_invalid_run_takes_timing_verdicts_back_but_not_counters() -> None:
    regressed = decide(data(0.10), DEFAULT, 40)
    assert void(regressed).status == "INCONCLUSIVE"
    breach = with_counters(regressed, (CounterChange(name="operators", base=10, head=11, breach=True),))
    assert void(breach).status == "REGRESSED"
    assert breach.reason.message.startswith("operators 10 -> 11; timing: ")


def test_fewer_operators_do_not_fail() -> None:
    found = with_counters(
        decide(data(), DEFAULT, 1), (CounterChange(name="operators", base=11, head=10, breach=False),)
    )
    assert found.status == "PASS"
    assert found.counters


def report(*statuses: Status, invalid: tuple[Reason, ...] = ()) -> GateReport:
    cases = tuple(CaseVerdict(case=f"c{i}", status=s, reason=Reason("r", "why")) for i, s in enumerate(statuses))
    return GateReport(
        schema_version=1,
        suite=("s",),
        base="a",
        head="b",
        machine="m",
        preset=DEFAULT,
        seed=0,
        cases=cases,
        invalid=invalid,
    )


INVALID = (Reason("control", "a control differs"),)


@pytest.mark.parametrize(
    ("given_report", "strict", "code"),
    [
        (report("PASS", "NEW", "IMPROVED"), False, Exit.OK),
        (report("PASS", "REGRESSED", "ERROR"), False, Exit.REGRESSION),
        (report("PASS", "MISSING"), False, Exit.REGRESSION),
        (report("PASS", "ERROR"), False, Exit.CASE_FAILED),
        (report("SKIPPED", "NEW"), False, Exit.NOT_COMPARABLE),
        (report("NOT_COMPARABLE"), False, Exit.NOT_COMPARABLE),
        (report(), False, Exit.NOT_COMPARABLE),
        (report("INCONCLUSIVE"), False, Exit.OK),
        (report("INCONCLUSIVE"), True, Exit.INVALID),
        (report("INCONCLUSIVE", invalid=INVALID), False, Exit.INVALID),
        (report("MISSING", invalid=INVALID), False, Exit.REGRESSION),
    ],
)
def test_exit_codes(given_report: GateReport, strict: bool, code: Exit) -> None:
    assert exit_code(given_report, strict=strict) == code


def test_the_headline_tells_the_worst_first() -> None:
    assert headline(report("PASS", "REGRESSED", "PASS")) == "1 regressed, 2 unchanged."
    assert headline(report("INCONCLUSIVE", invalid=INVALID)).startswith("The timings are invalid: a control differs.")
