"""How far two processes of one case differ: which cases are measured twice, and what comparisons make of it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import msgspec
import pytest

from bench.between import Between, between, chosen, log_ratios, widened, widened_median
from bench.gate.advisory import agreement, compare, timed
from bench.plan import Planned
from bench.records import Limits, Outcome, Record
from bench.reporting.cases import case_row
from bench.reporting.quality_line import quality_line
from bench.reporting.verdict import verdict
from bench.stats import Ratio
from tests import sample_records

WIDE = Between(1.0, 6)


def planned(estimates_s: Sequence[float], skipped: Sequence[int] = ()) -> list[Planned]:
    case = sample_records.scaling_cases()[0]
    return [
        Planned(
            key=str(n),
            case=case,
            memory_bytes=0,
            memory_parts={},
            estimate_s=estimate_s,
            skip_reason="too large" if n in skipped else None,
        )
        for n, estimate_s in enumerate(estimates_s)
    ]


def times(record: Record, factor: float) -> Record:
    assert record.measurement is not None
    found = tuple(t * factor for t in record.measurement.times_s)
    return msgspec.structs.replace(record, measurement=msgspec.structs.replace(record.measurement, times_s=found))


def test_cases_measured_twice_are_spread_over_the_sweep() -> None:
    assert [p.key for p in chosen(planned([1.0] * 28), Limits())] == ["2", "8", "14", "19", "25"]
    assert len(chosen(planned([1.0] * 2000), Limits())) == Limits().remeasured
    assert len(chosen(planned([1.0] * 6), Limits())) == 3


def test_few_skipped_and_long_cases_are_not_measured_twice() -> None:
    assert chosen(planned([1.0] * 5), Limits()) == []
    assert chosen(planned([1.0] * 6, skipped=[0]), Limits()) == []
    assert chosen(planned([1.0] * 28), Limits(remeasured=0)) == []
    slow = [1.0] * 8 + [100.0] * 4
    assert all(p.estimate_s == 1.0 for p in chosen(planned(slow), Limits()))


def test_the_scale_is_that_of_the_pairs_that_both_ended_well() -> None:
    first = [sample_records.record(case) for case in sample_records.scaling_cases()[:5]]
    failed = msgspec.structs.replace(first[3], outcome=Outcome(status="failed", kind="crash"), measurement=None)
    again = [times(first[0], 1.02), times(first[1], 1 / 1.02), times(first[2], 1.02), failed]
    ratios = log_ratios(first, again)
    assert ratios == pytest.approx([math.log(1.02), -math.log(1.02), math.log(1.02)])
    found = between(ratios)
    assert found is not None
    assert (found.pairs, found.scale) == (3, pytest.approx(math.log(1.02)))
    assert between(ratios[:2]) is None


def test_students_t_is_that_of_as_many_degrees_as_pairs() -> None:
    from scipy.stats import t

    for pairs in (3, 5, 8, 12):
        assert Between(1.0, pairs).reach == pytest.approx(t.ppf(0.975, pairs), rel=0.05)


def test_an_interval_is_widened_on_both_sides_and_never_narrowed() -> None:
    ratio = Ratio(1.1, 1.1 * math.exp(-0.03), 1.1 * math.exp(0.04))
    found = widened(ratio, Between(0.01, 400))
    assert math.log(found.value / found.low) == pytest.approx(math.hypot(0.03, 0.0196), rel=0.02)
    assert math.log(found.high / found.value) == pytest.approx(math.hypot(0.04, 0.0196), rel=0.02)
    assert widened(ratio, None) == ratio
    assert widened(ratio, Between(0.0, 5)) == pytest.approx(ratio)


def test_a_median_is_widened_by_what_one_process_lies_from_all() -> None:
    low, high = widened_median(0.010, (0.0098, 0.0103), Between(0.05, 400))
    assert math.log(0.010 / low) == pytest.approx(math.hypot(math.log(0.010 / 0.0098), 1.96 * 0.05 / 2**0.5), rel=0.02)
    assert high > 0.0103
    assert widened_median(0.010, (0.0098, 0.0103), None) == (0.0098, 0.0103)


@pytest.mark.parametrize("odd", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_time_widens_nothing_and_breaks_nothing(odd: float) -> None:
    first = [sample_records.record(case) for case in sample_records.scaling_cases()[:4]]
    again = [times(r, odd) for r in first]
    assert log_ratios(first, again) == log_ratios(again, first) == []
    assert widened_median(0.010, (odd, 0.011), WIDE) == pytest.approx((odd, 0.011), nan_ok=True)
    bad = widened(Ratio(1.0, odd, 1.1), WIDE)
    assert (bad.value, bad.high) == (1.0, 1.1)


def test_the_table_of_cases_shows_no_digit_that_another_process_would_not() -> None:
    record = sample_records.record(sample_records.scaling_cases()[0])
    rows = [case_row(record, sample_records.machine(), {record.key: "a case"}, (), apart) for apart in (None, WIDE)]
    digits = [len([c for c in row.cells[1].text if c.isdigit()]) for row in rows]
    assert digits[1] < digits[0]


def runs_of(seed: int, sd: float) -> tuple[list[Record], list[float]]:
    """A run whose processes differ by a law of `sd`, and the log ratios of six of its cases measured twice."""
    chance = random.Random(seed)
    records = [sample_records.record(case) for case in sample_records.scaling_cases()[:12]]
    first = [times(r, math.exp(chance.gauss(0, sd))) for r in records]
    again = [times(r, math.exp(chance.gauss(0, sd))) for r in records[::2]]
    return first, log_ratios(first, again)


def test_equal_runs_agree_in_95_of_100_cases_only_with_what_the_pairs_tell() -> None:
    plain, allowed, compared = 0, 0, 0
    for seed in range(40):
        (base, some), (head, more) = runs_of(2 * seed, 0.05), runs_of(2 * seed + 1, 0.05)
        plain += agreement(compare(timed(base), timed(head))).agree
        found = agreement(compare(timed(base), timed(head), between([*some, *more])))
        allowed, compared = allowed + found.agree, compared + found.compared
    assert plain / compared < 0.6
    assert allowed / compared > 0.95


def test_a_change_beyond_what_processes_differ_by_still_shows() -> None:
    base, some = runs_of(1, 0.01)
    head = [times(r, 1.2) for r in base]
    found = agreement(compare(timed(base), timed(head), between(some)), between(some))
    assert found.agree == 0
    assert "6 cases measured twice" in found.words


def test_the_report_says_how_far_processes_differ_and_ranks_no_backend_within_that() -> None:
    cases = [*sample_records.scaling_cases(), *sample_records.backend_cases()]
    records = [sample_records.record(case) for case in cases]
    machine = sample_records.machine()
    assert "cases measured twice" in quality_line(records, machine, WIDE)
    assert "cases measured twice" not in quality_line(records, machine)
    assert verdict(records, machine, WIDE)[0].text.startswith("Two processes of one case differ by up to")
    assert "Trust" not in {s.topic for s in verdict(records, machine, Between(0.01, 6))}
    backends = [s.text for s in verdict(records, machine, WIDE) if s.topic == "Backends"]
    assert backends
    assert all("not told apart" in text for text in backends)
