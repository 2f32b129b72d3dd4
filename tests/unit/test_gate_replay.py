"""A recorded run judged again: golden outputs, what a log means, what comes next. And that red is red."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from bench.commands.gate_tell import tell
from bench.errors import Exit, SchemaError, UsageError
from bench.gate import counters, presets, schedule
from bench.gate.conclude import conclude
from bench.gate.ledger import CONTROLS, Ledger, difference, kept
from bench.gate.log import Blocks, Counted, Ended, Line, Stopped, Writer, keep, read_lines, read_manifest
from bench.gate.plan import make_plan
from bench.gate.render.github import MAX_PER_LEVEL, workflow_commands
from bench.gate.render.junit import junit
from bench.gate.render.markdown import markdown
from bench.gate.verdict import CaseVerdict, GateReport, Reason, exit_code
from tests.sample_gate import (
    CHANGES,
    GOLDEN,
    counted,
    counting_lines,
    epoch_lines,
    outputs,
    sample_lines,
    sample_manifest,
    suite_case,
)


def judged(lines: list[Line] | None = None, **changes: object) -> GateReport:
    return conclude(sample_manifest(**changes), sample_lines() if lines is None else lines)


def statuses(report: GateReport) -> dict[str, str]:
    return {c.case: c.status for c in report.cases}


@pytest.mark.parametrize("file", ["gate.json", "gate.md", "junit.xml", "github.txt"])
def test_a_recorded_run_gives_the_same_bytes(file: str) -> None:
    """Meant to change? `python -m tests.sample_gate` writes them anew; read the difference."""
    assert outputs(judged())[file] == (GOLDEN / file).read_text()


def test_every_case_gets_the_verdict_it_should() -> None:
    assert statuses(judged()) == {
        "steps.py:slower": "REGRESSED",
        "steps.py:faster": "IMPROVED",
        "steps.py:same": "PASS",
        "steps.py:copies": "REGRESSED",
        "steps.py:noisy": "INCONCLUSIVE",
        "steps.py:raises": "ERROR",
        "steps.py:dies": "ERROR",
        "steps.py:gpu": "SKIPPED",
        "steps.py:gone": "MISSING",
        "steps.py:added": "NEW",
        "tiny": "NOT_COMPARABLE",
    }


def test_junit_is_xml_with_a_failure_of_its_type() -> None:
    suite = ElementTree.fromstring((GOLDEN / "junit.xml").read_text())
    assert int(suite.attrib["failures"]) == len(suite.findall(".//failure")) == 3
    assert int(suite.attrib["errors"]) == len(suite.findall(".//error")) == 2
    assert int(suite.attrib["tests"]) == len(suite.findall("testcase")) == 11
    assert {f.attrib["type"] for f in suite.findall(".//failure")} == {"regression", "missing"}


def test_junit_is_red_wherever_the_exit_code_is() -> None:
    unsure = alone("mine", [*two_stages("mine", 0.0)[:3], Stopped(elapsed_s=1.0)])
    assert exit_code(unsure) == Exit.OK
    assert "<error" not in junit(unsure)
    assert exit_code(unsure, strict=True) == Exit.INVALID
    assert '<error type="inconclusive"' in junit(unsure, strict=True)
    nothing = judged([], cases=())
    assert exit_code(nothing) == Exit.NOT_COMPARABLE
    assert '<error type="not_comparable"' in junit(nothing)


@pytest.mark.parametrize(
    ("base", "head", "status"),
    [
        ("skipped", "error", "ERROR"),
        ("ok", "skipped", "MISSING"),
        ("skipped", "ok", "NEW"),
        ("skipped", "skipped", "SKIPPED"),
        ("skipped", "absent", "SKIPPED"),
    ],
)
def test_a_test_that_one_side_skips_hides_nothing_of_the_other(base: str, head: str, status: str) -> None:
    lines: list[Line] = [
        counted("t", "base", outcome=base, message="b"),
        counted("t", "head", outcome=head, message="h"),
    ]
    report = judged([*lines, Ended(epoch=0, elapsed_s=1.0)], cases=(suite_case("t"),), runner="pytest")
    assert statuses(report) == {"t": status}


def test_a_budget_that_ended_is_the_reason_only_where_epochs_were_lacking() -> None:
    none = alone("mine", [*two_stages("mine", 0.0)[:3], Stopped(elapsed_s=1.0)])
    assert none.invalid == ()
    assert none.cases[0].reason.code == "budget"
    loud = presets.changed(
        presets.load("default"), {"target_frac": 0.003, "min_effect_frac": 0.001, "floor_s": 0.0, "n1": [8, 8]}
    )
    lines = two_stages("mine", 0.0)[: -12 * 5]
    whole = judged([*lines, Stopped(elapsed_s=1.0)], cases=(suite_case("mine"),), preset=loud)
    assert (whole.cases[0].status, whole.cases[0].reason.code) == ("INCONCLUSIVE", "noise")
    cut = judged([*lines[:-10], Stopped(elapsed_s=1.0)], cases=(suite_case("mine"),), preset=loud)
    assert (cut.cases[0].status, cut.cases[0].reason.code) == ("INCONCLUSIVE", "budget")


def alone(name: str, lines: list[Line]) -> GateReport:
    return judged(lines, cases=(suite_case(name),))


def two_stages(name: str, change_frac: float) -> list[Line]:
    lines: list[Line] = [counted(name, "base"), counted(name, "head"), Ended(epoch=0, elapsed_s=1.0)]
    import random

    CHANGES[name] = change_frac
    try:
        for epoch in range(1, 21):
            lines += epoch_lines(epoch, 1 if epoch < 9 else 2, (name, *CONTROLS), random.Random(epoch))
    finally:
        del CHANGES[name]
    return lines


def test_red_check_an_injected_20_percent_is_red_and_nothing_is_not_green() -> None:
    assert exit_code(alone("mine", two_stages("mine", 0.20))) == Exit.REGRESSION
    assert exit_code(alone("mine", two_stages("mine", 0.0))) == Exit.OK
    assert exit_code(alone("mine", [])) == Exit.CASE_FAILED
    assert exit_code(alone("mine", two_stages("mine", 0.0)[:3])) == Exit.CASE_FAILED
    assert exit_code(judged([], cases=())) == Exit.NOT_COMPARABLE


@pytest.mark.parametrize("bad", [None, 0.0, -1.0, math.inf])
def test_a_time_that_is_no_number_is_red(bad: float | None) -> None:
    lines = two_stages("mine", 0.0)
    for at, line in enumerate(lines):
        if isinstance(line, Blocks) and line.case == "mine" and line.epoch == 5:
            lines[at] = msgspec.structs.replace(line, head_s=(bad, *line.head_s[1:]))
    report = alone("mine", lines)
    assert report.cases[0].reason.code == "not_finite"
    assert exit_code(report) == Exit.CASE_FAILED


def test_a_control_that_differs_makes_a_regression_invalid() -> None:
    lines = [
        msgspec.structs.replace(line, head_s=tuple(s * 1.2 for s in line.head_s if s))
        if isinstance(line, Blocks) and line.case == CONTROLS[0]
        else line
        for line in two_stages("mine", 0.20)
    ]
    report = alone("mine", lines)
    assert report.cases[0].status == "INCONCLUSIVE"
    assert exit_code(report) == Exit.INVALID
    assert "error" in outputs(report)["junit.xml"]
    assert "timings are invalid" in markdown(report)


def disturbed(line: Line, share: float) -> Line:
    if not isinstance(line, Blocks):
        return line
    cut = round(share * len(line.steal_frac))
    return msgspec.structs.replace(line, steal_frac=(0.5,) * cut + line.steal_frac[cut:])


def test_disturbed_pairs_are_left_out_whole_and_too_many_decide_nothing() -> None:
    lines = two_stages("mine", 0.20)
    one = next(line for line in lines if isinstance(line, Blocks))
    assert kept(msgspec.structs.replace(one, throttled_s=(0.0, 0.1, 0.0, 0.0))) == (True, False, True, True)
    half = disturbed(one, 0.5)
    assert isinstance(half, Blocks)
    assert difference(half) is not None
    most = disturbed(one, 0.75)
    assert isinstance(most, Blocks)
    assert difference(most) is None
    assert exit_code(alone("mine", [disturbed(line, 0.5) for line in lines])) == Exit.INVALID
    assert exit_code(alone("mine", [disturbed(line, 1.0) for line in lines])) == Exit.INVALID


def test_an_epoch_that_never_ended_never_counts() -> None:
    lines = two_stages("mine", 0.0)
    assert Ledger(lines[:-1]).epochs == 19
    assert Ledger(lines[:-1]).epochs_of("mine", 2).tried == 11
    assert Ledger(lines[:-1]).next_epoch == 21


def small_manifest(**changes: object):  # type: ignore[no-untyped-def]
    return sample_manifest(cases=(suite_case("mine"),), **changes)


def test_the_schedule_screens_then_confirms_then_stops() -> None:
    fixed = presets.changed(presets.load("default"), {"n1": [8, 8], "n2": [12, 12]})
    manifest, lines = small_manifest(preset=fixed), two_stages("mine", 0.20)
    ended = [n for n, line in enumerate(lines) if isinstance(line, Ended)]
    stages = []
    for end in ended:
        plan = schedule.next_plan(manifest, Ledger(lines[: end + 1]))
        stages.append(plan.stage if plan else None)
    assert stages == [1] * 8 + [2] * 12 + [None]
    quiet = two_stages("mine", 0.0)
    assert schedule.next_plan(manifest, Ledger(quiet[: ended[8] + 1])) is None


def test_a_plan_is_drawn_from_the_seed_and_balanced() -> None:
    plan = schedule.plan_epoch(3, 5, 1, ["a", "b"])
    assert plan == schedule.plan_epoch(3, 5, 1, ["a", "b"])
    assert plan != schedule.plan_epoch(4, 5, 1, ["a", "b"])
    assert sorted(plan.order) == ["a", "b", *CONTROLS]
    assert {schedule.plan_epoch(0, e, 1, ["a"]).first for e in range(20)} == {"base", "head"}
    order = schedule.pair_order(plan, "a", 48)
    assert sum(order) == 24
    assert order != schedule.pair_order(plan, "b", 48)


def test_a_budget_ends_the_run_before_the_epoch_that_would_exceed_it() -> None:
    lines = two_stages("mine", 0.20)
    some = [*lines[: [n for n, line in enumerate(lines) if isinstance(line, Ended)][4] + 1]]
    assert not schedule.out_of_time(small_manifest(budget_s=None), Ledger(some))
    assert not schedule.out_of_time(small_manifest(budget_s=52.0), Ledger(some))
    assert schedule.out_of_time(small_manifest(budget_s=50.0), Ledger(some))
    report = alone("mine", [*some, Stopped(elapsed_s=41.0)])
    assert report.cases[0].status == "INCONCLUSIVE"
    assert exit_code(report) == Exit.OK
    assert exit_code(report, strict=True) == Exit.INVALID


def test_the_log_survives_a_torn_line_and_names_a_damaged_one(tmp_path: Path) -> None:
    with Writer(tmp_path) as writer:
        for line in counting_lines():
            writer.add(line)
    whole = read_lines(tmp_path)
    assert whole == counting_lines()
    with (tmp_path / "gate.jsonl").open("ab") as file:
        file.write(b'{"type":"ended","epo')
    assert read_lines(tmp_path) == whole
    with Writer(tmp_path) as writer:
        writer.add(Ended(epoch=1, elapsed_s=1.0))
        with pytest.raises(UsageError, match="another"), Writer(tmp_path):
            pass
    assert read_lines(tmp_path) == [*whole, Ended(epoch=1, elapsed_s=1.0)]
    with (tmp_path / "gate.jsonl").open("ab") as file:
        file.write(b'{"type":"no"}\n')
    with pytest.raises(SchemaError, match=r"gate.jsonl, line \d+"):
        read_lines(tmp_path)


def test_a_kept_run_is_the_run_without_its_machines_paths(tmp_path: Path) -> None:
    run, kept_at, again = tmp_path / "run", tmp_path / "kept", tmp_path / "again"
    run.mkdir()
    (run / "run.json").write_bytes(msgspec.json.encode(sample_manifest()))
    with Writer(run) as writer:
        for line in sample_lines():
            writer.add(line)
    keep(run, kept_at)
    keep(run, again)
    assert {p.name: p.read_bytes() for p in kept_at.iterdir()} == {p.name: p.read_bytes() for p in again.iterdir()}
    public = read_manifest(kept_at)
    assert (public.repository, public.folder, public.argv, public.base.python, public.head.python) == (
        "",
        "",
        (),
        "",
        "",
    )
    assert (public.base.commit, public.cases) == (sample_manifest().base.commit, sample_manifest().cases)
    plain = [msgspec.structs.replace(c, detail="") for c in judged().cases]
    assert list(conclude(public, read_lines(kept_at)).cases) == plain
    packed = kept_at / "gate.jsonl.gz"
    whole = packed.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no gzip", whole[:40] + b"\0" * 40 + whole[80:]):
        packed.write_bytes(damaged)
        with pytest.raises(SchemaError, match=r"gate\.jsonl\.gz: damaged"):
            read_lines(kept_at)


def test_a_kept_run_has_no_path_of_a_case_or_a_message(tmp_path: Path) -> None:
    run, kept_at = tmp_path / "run", tmp_path / "kept"
    run.mkdir()
    mine = f"{Path.home()}/mine/steps.py:mine"
    manifest = sample_manifest(cases=(suite_case(mine),), repository="/srv/repository")
    (run / "run.json").write_bytes(msgspec.json.encode(manifest))
    told = "FileNotFoundError: /srv/repository/rows.bin"
    with Writer(run) as writer:
        writer.add(counted(mine, "head", outcome="error", message=told, detail=f"File {Path.home()}/x.py"))
        writer.add(counted(mine, "base"))
        writer.add(Ended(epoch=0, elapsed_s=1.0))
    keep(run, kept_at)
    for file in kept_at.iterdir():
        text = gzip.decompress(file.read_bytes()).decode()
        assert str(Path.home()) not in text
        assert "/srv" not in text
    (case,) = conclude(read_manifest(kept_at), read_lines(kept_at)).cases
    assert (case.case, case.reason.message) == ("mine/steps.py:mine", "head: FileNotFoundError: rows.bin")


def test_a_kept_run_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.gate.log.MAX_UNPACKED_BYTES", 1 << 20)
    (tmp_path / "gate.jsonl.gz").write_bytes(gzip.compress(b"\n" * ((1 << 20) + 1)))
    with pytest.raises(SchemaError, match="unpacks to over 1 MiB"):
        read_lines(tmp_path)


def test_counters_more_is_a_breach_less_is_not_and_unstable_ones_are_left_out() -> None:
    base = counted("c", "base", counters={"operators": 5.0, "copies": 2.0, "syncs": 1.0, "gone": 1.0})
    head = counted("c", "head", counters={"operators": 6.0, "copies": 1.0, "syncs": 2.0}, unstable=("syncs",))
    found = {c.name: (c.head, c.breach) for c in counters.compare(base, head)}
    assert found == {"operators": (6.0, True), "copies": (1.0, False), "gone": (None, False)}


def test_another_torch_leaves_the_timing_and_says_so() -> None:
    lines = [
        msgspec.structs.replace(line, torch="3", counters={"operators": 99.0})
        if isinstance(line, Counted) and line.side == "head"
        else line
        for line in two_stages("mine", 0.0)
    ]
    report = alone("mine", lines)
    assert statuses(report) == {"mine": "PASS"}
    assert "counters are not compared, since they depend on torch: 2 on base, 3 on head" in report.notes
    only = judged(lines, cases=(suite_case("mine"),), counters_only=True)
    assert statuses(only) == {"mine": "NOT_COMPARABLE"}


def test_saved_counters_stand_for_base(tmp_path: Path) -> None:
    path = tmp_path / "counters.json"
    counters.write(path, counters.as_file([counted("c", "head")], "main"))
    stored = counters.read(path)
    (base,) = counters.as_base(stored)
    assert base.counters == counted("c", "head").counters
    manifest = sample_manifest(cases=(suite_case("c"),), counters_only=True, against="counters.json")
    end = Ended(epoch=0, elapsed_s=1.0)
    assert statuses(conclude(manifest, [base, counted("c", "head"), end])) == {"c": "PASS"}
    other = counted("c", "head", torch="3")
    assert exit_code(conclude(manifest, [base, other, end])) == Exit.NOT_COMPARABLE
    with pytest.raises(UsageError, match="only where every case runs"):
        counters.as_file([counted("c", "head", outcome="error", message="m")], "main")
    with pytest.raises(UsageError, match="--save"):
        counters.read(tmp_path / "none.json")


def test_the_report_is_written_before_the_exit_code_and_where_github_wants_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = tmp_path / "summary.md"
    environ = {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_ACTIONS": "true"}
    extra = {"junit": tmp_path / "j.xml", "markdown": None}
    code = tell(judged(), tmp_path, strict=False, as_json=True, extra=extra, environ=environ)
    assert code == Exit.REGRESSION
    said = capsys.readouterr()
    assert json.loads(said.out)["exit_code"] == 1
    assert said.err.count("::error") == 5
    assert summary.read_text() == (GOLDEN / "gate.md").read_text()
    assert (tmp_path / "j.xml").read_text() == (GOLDEN / "junit.xml").read_text()
    assert tell(judged(), tmp_path, strict=False, as_json=False, extra={}, environ={}) == Exit.REGRESSION
    said = capsys.readouterr()
    assert "steps.py:slower" in said.out
    assert "::error" not in said.err


def test_github_is_given_no_more_annotations_than_it_shows() -> None:
    cases = tuple(CaseVerdict(case=f"c{i}", status="REGRESSED", reason=Reason("r", "m")) for i in range(30))
    found = workflow_commands(msgspec.structs.replace(judged(), cases=cases))
    assert len(found) == MAX_PER_LEVEL
    assert "21 more cases" in found[-1]


def test_a_plan_says_how_long_and_what_it_finds() -> None:
    plan = make_plan(["a"] * 40, [], presets.load("default"), 60.0)
    assert plan.confirm_level == pytest.approx(0.0025)
    assert plan.least_n2 == 12
    assert plan.stage1_s == pytest.approx(8 * plan.epoch_s)
    assert plan.detectable_frac["0.01"] <= plan.detectable_frac["0.04"]
