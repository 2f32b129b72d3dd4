"""Comparing two sweep runs."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from bench import store
from bench.cli import app
from bench.errors import Exit, UsageError
from bench.gate.advisory import Compared, Timed, agreement, timed
from bench.gate.advisory import compare as compare_timed
from bench.records import Measurement, Outcome, Record
from tests import sample_records


def slowed(record: Record, factor: float) -> Record:
    measurement = record.measurement
    assert isinstance(measurement, Measurement)
    times = tuple(t * factor for t in measurement.times_s)
    return msgspec.structs.replace(record, measurement=msgspec.structs.replace(measurement, times_s=times))


def compare(base: list[Record], head: list[Record]) -> tuple[Compared, ...]:
    return compare_timed(timed(base), timed(head))


def test_times_that_are_no_numbers_are_not_compared() -> None:
    good, bad = (Timed(case="c", machine="m", times_s=t) for t in ((1.0, 1.1), (1.0, float("nan"))))
    for empty in (bad, Timed(case="c", machine="m")):
        (found,) = compare_timed([good], [empty])
        assert found.reason.message == "head: its times are not positive numbers"


def test_a_run_against_itself_never_differs() -> None:
    record = sample_records.record(sample_records.scaling_cases()[0])
    (found,) = compare([record], [record])
    assert found.change_frac == 0.0
    assert found.low_frac is not None
    assert found.high_frac is not None
    assert found.low_frac <= 0.0 <= found.high_frac


def test_agreement_counts_the_cases_whose_interval_holds_no_change() -> None:
    records = [sample_records.record(case) for case in sample_records.scaling_cases()[:4]]
    head = [*records[:3], slowed(records[3], 1.5)]
    found = agreement(compare(records, head))
    assert (found.agree, found.compared) == (3, 4)
    assert found.words.startswith("3 of 4 cases (75 %) agree within their joint 95 % intervals")
    assert agreement(compare([], head)).words.startswith("0 of 0 cases agree")


def test_swapping_runs_flips_the_change() -> None:
    record = sample_records.record(sample_records.scaling_cases()[0])
    (ahead,), (behind,) = (
        compare([record], [slowed(record, 1.5)]),
        compare([slowed(record, 1.5)], [record]),
    )
    assert ahead.change_frac == pytest.approx(0.5)
    assert behind.change_frac == pytest.approx(1 / 1.5 - 1)
    assert ahead.reason.message == "differs beyond the repeats"


def test_what_cannot_be_compared_says_why() -> None:
    record = sample_records.record(sample_records.scaling_cases()[0])
    other = msgspec.structs.replace(record, machine="other")
    failed = msgspec.structs.replace(record, outcome=Outcome(status="failed", reason="it broke"))
    assert compare([record], [])[0].reason.message == "head does not have it"
    assert compare([], [record])[0].reason.message == "base does not have it"
    assert compare([record], [other])[0].reason.code == "machine"
    assert compare([failed], [record])[0].reason.message == "base: it broke"


def test_the_verb_is_advisory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = [sample_records.record(c) for c in sample_records.scaling_cases()[:2]]
    for name, records in (("a", found), ("b", [slowed(r, 2.0) for r in found]), ("c", [])):
        (tmp_path / name).mkdir()
        store.write_manifest(tmp_path / name, sample_records.manifest(found))
        with store.Appender(tmp_path / name) as out:
            for record in records:
                out.add(record)
    run = ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]
    assert app(run, standalone_mode=False) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert [c["change_frac"] for c in told["cases"]] == pytest.approx([1.0, 1.0])
    assert "advisory" in told["advice"]
    assert app(run[:-1], standalone_mode=False) == Exit.OK
    assert "Advisory: one process per case and side" in capsys.readouterr().out
    assert app(["compare", str(tmp_path / "a"), str(tmp_path / "c")], standalone_mode=False) == Exit.NOT_COMPARABLE
    with pytest.raises(UsageError):
        app(["compare", str(tmp_path / "a"), str(tmp_path / "none")], standalone_mode=False)
