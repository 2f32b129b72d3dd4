"""Offenders of a run: cases whose inputs took longer than their measurement."""

from __future__ import annotations

import msgspec

from bench.records import Costs, Outcome, Record
from tests import sample_records
from tools.input_costs import offenders, ratio, shares


def record(inputs_s: float, measure_s: float) -> Record:
    costs = Costs(total_s=inputs_s + measure_s, inputs_s=inputs_s, measure_s=measure_s)
    return msgspec.structs.replace(sample_records.records()[0], costs=costs)


def test_only_cases_whose_inputs_took_longer_are_listed_the_worst_first() -> None:
    good, bad, worse = record(1.0, 2.0), record(2.0, 1.0), record(9.0, 1.0)
    failed = msgspec.structs.replace(worse, outcome=Outcome(status="failed"))
    assert offenders([good, bad, failed, worse]) == [worse, bad]
    assert ratio(bad) == 2.0


def test_the_parts_of_the_wall_time_are_told() -> None:
    assert "2 cases, 6.0 s: build 0%, inputs 50%, check 0%, measure 50%" in shares([record(1.0, 2.0), record(2.0, 1.0)])
    assert shares([]) == "no case was measured"
