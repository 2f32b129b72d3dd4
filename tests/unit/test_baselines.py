"""Stored baselines: calibrated, small, and moved by nothing that fails."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from bench import store
from bench.baselines import files
from bench.baselines.judge import LEAST_SD, enforceable_frac, judge, summaries
from bench.baselines.kept import SCHEMA_VERSION, Baseline, KeptRun, kept_run
from bench.commands import baseline as verbs
from bench.commands.gate_baseline import gate_baseline
from bench.errors import Exit, UsageError
from bench.gate.presets import load
from bench.gate.verdict import exit_code
from bench.records import Case, Manifest, Outcome, Record
from profiles.machine import Fingerprint
from tests import sample_records

DEFAULT = load("default")
CASES = msgspec.json.decode(msgspec.json.encode(sample_records.scaling_cases()[:2]), type=list[Case])
SLOW, OTHER = (c.key() for c in CASES)


def run(number: int, step_s: dict[str, float | None], **changes: object) -> KeptRun:
    made = KeptRun(run=f"run-{number}", created_at=f"2026-01-{number:02d}", commit="c", version="1", step_s=step_s)
    return msgspec.structs.replace(made, **changes)


def baseline(times: list[float], name: str = "c") -> Baseline:
    runs = tuple(run(n, {name: t}) for n, t in enumerate(times, 1))
    return Baseline(
        schema_version=SCHEMA_VERSION,
        name="mine",
        machine="A Processor",
        machine_hash="0" * 16,
        hard={"torch": "2"},
        accepted_at="2026-01-31",
        reason="first",
        cases=summaries(runs),
        runs=runs,
    )


def status(found: Baseline, step_s: dict[str, float | None], **changes: object) -> str:
    report = judge(found, [run(9, step_s, **changes)], DEFAULT)
    assert len(report.cases) == 1
    return report.cases[0].status


def test_false_failures_and_power_are_what_is_promised() -> None:
    """Normal scatter: unchanged runs fail at most at the family error, enforceable ones 39 times in 40."""
    chance = random.Random(3)
    failed = found = 0
    trials = 1500
    for _ in range(trials):
        sd = 0.02
        times = [10e-3 * math.exp(chance.gauss(0, sd)) for _ in range(8)]
        stored = baseline(times)
        failed += status(stored, {"c": 10e-3 * math.exp(chance.gauss(0, sd))}) == "REGRESSED"
        # With the true scatter, so that what is promised does not lean on the sample's.
        size = enforceable_frac([sd * d for d in NORMAL_SCORES], DEFAULT, 1)
        found += status(stored, {"c": (1 + size) * 10e-3 * math.exp(chance.gauss(0, sd))}) == "REGRESSED"
    assert failed / trials <= DEFAULT.family_error + 3 * math.sqrt(0.01 * 0.99 / trials)
    assert abs(found / trials - 0.975) < 0.02


def _unit(values: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    sd = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return [(v - mean) / sd for v in values]


NORMAL_SCORES = _unit([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])


def test_by_hand() -> None:
    """Five runs 1 % apart: sd of ln is 0.0158, one new run's error 0.0158 sqrt(1 + 1/5), t(0.99, 4) = 3.747."""
    stored = baseline([0.98e-2, 0.99e-2, 1.0e-2, 1.01e-2, 1.02e-2])
    (summary,) = stored.cases.values()
    assert summary.sd_frac == pytest.approx(0.0158, abs=1e-4)
    assert status(stored, {"c": 1.06e-2}) == "INCONCLUSIVE"
    assert status(stored, {"c": 1.08e-2}) == "REGRESSED"
    assert status(stored, {"c": 0.92e-2}) == "IMPROVED"
    assert status(stored, {"c": 1.0e-2}) == "PASS"
    assert summary.enforceable_frac > math.expm1(3.747 * 0.0173)
    more = baseline([1e-2 * (1 + 0.01 * (n % 5 - 2)) for n in range(20)])
    assert more.cases["c"].enforceable_frac < summary.enforceable_frac
    few = [run(n, {"c": 1.03e-2}) for n in (7, 8, 9)]
    assert judge(more, few, DEFAULT).cases[0].status == "REGRESSED"
    assert judge(more, few[:1], DEFAULT).cases[0].status != "REGRESSED"


def test_runs_that_agree_by_chance_do_not_make_a_perfect_machine() -> None:
    same = baseline([1e-2] * 5)
    assert status(same, {"c": 1.0001e-2}) == "PASS"
    assert same.cases["c"].enforceable_frac >= DEFAULT.min_effect_frac > LEAST_SD


@pytest.mark.parametrize(
    ("step_s", "changes", "verdict", "code"),
    [
        ({}, {}, "MISSING", Exit.REGRESSION),
        ({"c": None}, {}, "ERROR", Exit.CASE_FAILED),
        ({"c": math.nan}, {}, "ERROR", Exit.CASE_FAILED),
        ({"c": math.inf}, {}, "ERROR", Exit.CASE_FAILED),
        ({"c": 0.0}, {}, "ERROR", Exit.CASE_FAILED),
        ({}, {"failed": {"c": "ValueError: no"}}, "ERROR", Exit.CASE_FAILED),
        ({}, {"skipped": {"c": "no GPU"}}, "MISSING", Exit.REGRESSION),
        ({"c": 1.2e-2}, {}, "REGRESSED", Exit.REGRESSION),
    ],
)
def test_what_is_no_result_is_never_green(
    step_s: dict[str, float | None], changes: dict[str, object], verdict: str, code: int
) -> None:
    stored = baseline([0.99e-2, 1.0e-2, 1.01e-2, 1.0e-2, 1.0e-2])
    assert status(stored, step_s, **changes) == verdict
    assert exit_code(judge(stored, [run(9, step_s, **changes)], DEFAULT)) == code


def test_a_renamed_case_is_red() -> None:
    report = judge(baseline([0.99e-2, 1.0e-2, 1.01e-2, 1.0e-2, 1.0e-2]), [run(9, {"renamed": 1e-2})], DEFAULT)
    assert {c.case: c.status for c in report.cases} == {"c": "MISSING", "renamed": "NEW"}
    assert exit_code(report) == Exit.REGRESSION


def sweep_run(folder: Path, number: int, factor: float = 1.0, slow: float = 1.0, hash_: str = "here") -> Path:
    """A finished sweep of two cases; `slow` multiplies the first one's times."""
    chance = random.Random(number)
    print_ = Fingerprint(hash=hash_, hard={"torch": "2", "cpu": hash_}, soft={}, volatile={})
    machine = sample_records.machine(fingerprint=print_)
    run_dir = folder / f"run-{hash_}-{number}"
    run_dir.mkdir(parents=True)
    manifest = Manifest(
        schema_version=1,
        name="s",
        created_at=f"2026-02-{number:02d}T00:00:00+00:00",
        argv=(),
        cases=tuple(CASES),
        limits=sample_records.Limits(),
        machine=machine,
        commit="c",
        code_digest="d",
        version="1",
    )
    store.write_manifest(run_dir, manifest)
    records = [_scaled(sample_records.record(c), factor * chance.gauss(1, 0.01)) for c in CASES]
    records[0] = _scaled(records[0], slow)
    write(run_dir, records)
    return run_dir


def write(run_dir: Path, records: list[Record]) -> None:
    (run_dir / store.RECORDS).unlink(missing_ok=True)
    with store.Appender(run_dir) as out:
        for record in records:
            out.add(record)


def _scaled(record: Record, factor: float) -> Record:
    assert record.measurement is not None
    times = tuple(t * factor for t in record.measurement.times_s)
    return msgspec.structs.replace(record, measurement=msgspec.structs.replace(record.measurement, times_s=times))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Five runs recorded and accepted."""
    home = tmp_path / "baselines"
    for number in range(1, 6):
        assert verbs.record("mine", [sweep_run(tmp_path, number)], home, anew=False) == Exit.OK
    assert verbs.accept("mine", "first figures", home, "here") == Exit.OK
    return home


def gate(home: Path, *runs: Path, **changes: object) -> int:
    options = {"strict": False, "as_json": True, "junit": None, "markdown": None} | changes
    return gate_baseline("mine", runs, home, DEFAULT, **options)  # type: ignore[arg-type]


def test_fewer_than_five_runs_cannot_be_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "b"
    first = sweep_run(tmp_path, 1)
    verbs.record("mine", [first], home, anew=False)
    assert "4 more separate runs are needed" in capsys.readouterr().out
    with pytest.raises(UsageError, match="1 runs, at least 5"):
        verbs.accept("mine", "why", home, "here")
    with pytest.raises(UsageError, match="recorded already"):
        verbs.record("mine", [first], home, anew=False)
    with pytest.raises(UsageError, match="1 runs are recorded, none accepted"):
        gate(home, first)
    with pytest.raises(UsageError, match="--reason is empty"):
        verbs.accept("mine", " ", home, "here")
    with pytest.raises(UsageError, match="letters, digits"):
        verbs.record("../mine", [first], home, anew=False)


def test_the_file_is_small_and_says_what_it_can_enforce(home: Path) -> None:
    (path,) = (home / "here").iterdir()
    assert path.name == "mine.json"
    assert path.stat().st_size < 4000
    told = json.loads(path.read_text())
    assert told["reason"] == "first figures"
    assert all(0.02 < c["enforceable_frac"] < 0.3 for c in told["cases"].values())


def test_gating_a_run_writes_every_format_and_is_red_at_20_percent(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = sweep_run(tmp_path, 7), sweep_run(tmp_path, 8, slow=1.2)
    assert gate(home, good) == Exit.OK
    capsys.readouterr()
    assert gate(home, bad, junit=tmp_path / "j.xml", markdown=tmp_path / "m.md") == Exit.REGRESSION
    told = json.loads(capsys.readouterr().out)
    assert {c["case"]: c["status"] for c in told["cases"]}[SLOW] == "REGRESSED"
    assert ElementTree.parse(tmp_path / "j.xml").getroot().attrib["failures"] == "1"
    assert "1 regressed" in (tmp_path / "m.md").read_text()
    assert {"gate.json", "gate.md", "junit.xml"} <= {p.name for p in bad.iterdir()}


def test_a_failing_run_moves_no_baseline(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.read_bytes() for p in home.rglob("*.json")}
    assert verbs.record("mine", [sweep_run(tmp_path, 8, slow=1.2)], home, anew=False) == Exit.REGRESSION
    assert "never moves a baseline" in " ".join(capsys.readouterr().err.split())
    failed = sweep_run(tmp_path, 9)
    records = store.read_records(failed)
    bad = msgspec.structs.replace(records[0], outcome=Outcome(status="failed", kind="error", reason="boom"))
    write(failed, [bad, records[1]])
    assert verbs.record("mine", [failed], home, anew=False) == Exit.CASE_FAILED
    write(failed, [_scaled(records[0], 0.0), records[1]])
    assert verbs.record("mine", [failed], home, anew=False) == Exit.CASE_FAILED
    write(failed, [records[1]])
    assert verbs.record("mine", [failed], home, anew=False) == Exit.CASE_FAILED
    assert gate(home, failed) == Exit.CASE_FAILED
    assert {p: p.read_bytes() for p in home.rglob("*.json")} == before


def test_a_meant_change_is_recorded_anew_and_the_old_one_judges_until_it_is_accepted(
    home: Path, tmp_path: Path
) -> None:
    slow = [sweep_run(tmp_path, n, slow=1.5) for n in range(11, 16)]
    assert verbs.record("mine", slow, home, anew=True) == Exit.OK
    assert gate(home, slow[0]) == Exit.REGRESSION
    before = files.all_accepted(home)[0].cases[SLOW].step_s
    assert verbs.accept("mine", "a wider table", home, "here") == Exit.OK
    assert files.all_accepted(home)[0].cases[SLOW].step_s / before == pytest.approx(1.5, rel=0.05)
    assert gate(home, sweep_run(tmp_path, 16, slow=1.5)) == Exit.OK
    accepted = files.read_accepted(home, "here", "mine")
    assert accepted is not None
    assert len(accepted.runs) == 5
    assert not (home / "here" / "mine.recorded.json").exists()


def test_more_runs_join_those_in_force_and_are_pruned(home: Path, tmp_path: Path) -> None:
    for number in (21, 22):
        verbs.record("mine", [sweep_run(tmp_path, number)], home, anew=False)
    verbs.accept("mine", "more runs", home, "here")
    assert len(files.all_accepted(home)[0].runs) == 7
    verbs.record("mine", [sweep_run(tmp_path, 23)], home, anew=False)
    with pytest.raises(UsageError, match="at least 5"):
        verbs.prune("mine", home, "here", keep=2, everything=False)
    verbs.prune("mine", home, "here", keep=6, everything=False)
    assert [r.created_at[8:10] for r in files.all_accepted(home)[0].runs] == ["02", "03", "04", "05", "21", "22"]
    assert files.all_recorded(home) == []
    verbs.prune("mine", home, "here", keep=None, everything=True)
    with pytest.raises(UsageError, match="there is none of this machine"):
        verbs.prune("mine", home, "here", keep=None, everything=True)


def test_a_foreign_fingerprint_is_not_comparable_and_exit_4(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = sweep_run(tmp_path, 7, hash_="there")
    capsys.readouterr()
    assert gate(home, foreign) == Exit.NOT_COMPARABLE
    told = json.loads(capsys.readouterr().out)
    assert {c["status"] for c in told["cases"]} == {"NOT_COMPARABLE"}
    assert "cpu: here there, there here" in told["cases"][0]["reason"]["message"]
    with pytest.raises(UsageError, match="no baseline 'other'; there is mine"):
        gate_baseline("other", [foreign], home, DEFAULT, strict=False, as_json=True, junit=None, markdown=None)


def test_what_is_kept_of_a_run_names_what_is_lacking(tmp_path: Path) -> None:
    run_dir = sweep_run(tmp_path, 1)
    write(run_dir, store.read_records(run_dir)[1:])
    kept = kept_run("r", store.read_manifest(run_dir), store.read_records(run_dir))
    assert kept.failed == {SLOW: "the run ended before this case"}
    assert list(kept.step_s) == [OTHER]


def test_the_list_tells_of_every_machine(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert verbs.show(home, as_json=True) == Exit.OK
    assert [b["name"] for b in json.loads(capsys.readouterr().out)["accepted"]] == ["mine"]
    verbs.show(home, as_json=False)
    assert "5 in force" in capsys.readouterr().out
