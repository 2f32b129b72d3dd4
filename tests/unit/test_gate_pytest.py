"""What one pytest process of a side says, as lines of the gate's log."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.gate import pytest_run
from bench.gate.conclude import conclude
from bench.gate.ledger import CONTROLS
from bench.gate.log import Began, Blocks, Counted, Ended, EpochPlan, Failed, Line, MarkerAsk
from bench.gate.pytest_process import HowEnded, PytestCall, PytestResult, measuring_tests, run_pytest, with_measured
from bench.gate.pytest_run import PytestRun, collect, counted
from bench.gate.schedule import preset_of
from bench.gate.side import Checkout, SideLostError
from tests.sample_gate import sample_manifest, suite_case

TEST, OTHER = "t.py::a", "t.py::b"
COUNTERS = {"counters": {"operators": 3.0}, "unstable": ["copies"], "torch": "2"}
TRACE = "def a():\n>   raise ValueError('no')\nE   ValueError: no\n\nt.py:2: ValueError"


def result(**changes: Any) -> PytestResult:
    made: dict[str, Any] = {
        "tests": {TEST: {"tolerance": 0.05}, OTHER: {}},
        "errors": {},
        "ended": {TEST: HowEnded(outcome="passed"), OTHER: HowEnded(outcome="passed")},
        "counters": {TEST: COUNTERS},
        "controls": {"arithmetic": 1e-3, "gather": 2e-3},
        "torch": "2",
        "foreign": None,
        "times_s": {TEST: 1e-3, OTHER: 1e-3},
    }
    return PytestResult(**(made | changes))


@pytest.mark.parametrize(
    ("changes", "outcome", "message"),
    [
        ({}, "ok", ""),
        ({"ended": {TEST: HowEnded(outcome="failed", told=TRACE)}}, "error", "ValueError: no"),
        ({"ended": {TEST: HowEnded(outcome="skipped", told="Skipped: no GPU")}}, "skipped", "Skipped: no GPU"),
        ({"ended": {}}, "absent", "pytest did not run it"),
        ({"foreign": "m (/tree/m.py)"}, "error", "m (/tree/m.py) was imported from the working tree"),
    ],
)
def test_how_a_test_ended_is_the_cases_outcome(changes: dict[str, Any], outcome: str, message: str) -> None:
    found = counted(TEST, "head", result(**changes))
    assert found.outcome == outcome
    assert found.message.startswith(message)
    if outcome == "ok":
        assert (found.counters, found.unstable, found.torch) == ({"operators": 3.0}, ("copies",), "2")


def test_a_file_that_cannot_be_imported_is_a_case_of_its_own() -> None:
    broken = result(errors={"t.py": TRACE}, tests={}, ended={})
    assert counted("t.py", "head", broken).detail == TRACE
    assert counted("t.py", "base", result()).outcome == "ok"
    assert measuring_tests(result(), ["t.py"]) == []
    assert measuring_tests(result(), ["t"]) == [TEST, OTHER]


def test_the_marker_says_which_statistic_counts(tmp_path: Path) -> None:
    stats = {"min": 1.0, "mean": 2.0, "median": 3.0}
    path = tmp_path / "b.json"
    path.write_text(json.dumps({"benchmarks": [{"fullname": n, "stats": stats} for n in (TEST, OTHER, "t.py::c")]}))
    asked = result(tests={TEST: {"metric": "min"}, OTHER: {"metric": "p99"}, "t.py::c": {}})
    assert with_measured(asked, path).times_s == {TEST: 1.0, OTHER: 3.0, "t.py::c": 3.0}
    path.write_text(json.dumps({"benchmarks": [{"fullname": TEST, "stats": {}}]}))
    assert math.isnan(with_measured(asked, path).times_s[TEST])


class Observer:
    def counting(self, cases: int) -> None: ...

    def epoch(self, plan: EpochPlan, ledger: Any) -> None: ...

    def line(self, line: Line) -> None: ...


def checkout(side: str, root: Path) -> Checkout:
    return Checkout(side=side, python="python", root=root, folder=root, working_tree=root)


def gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: Any, *, order: tuple[str, ...] = (TEST, OTHER, *CONTROLS)
) -> list[Line]:
    """Lines of one counting pass and one epoch, with `head` (a result or an error) on its side."""
    calls: list[tuple[str, PytestCall]] = []

    def fake(side: Checkout, call: PytestCall, folder: Path, name: str) -> PytestResult:
        calls.append((side.side, call))
        found = result() if side.side == "base" else head
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(pytest_run, "run_pytest", fake)
    sides = {"base": checkout("base", tmp_path), "head": checkout("head", tmp_path)}
    manifest = sample_manifest(cases=(suite_case(TEST), suite_case(OTHER)), runner="pytest", pytest_args=("x",))
    run = PytestRun(tmp_path, manifest, sides, Observer())  # type: ignore[arg-type]
    lines: list[Line] = []
    run._count_cases(lines.append)
    plan = EpochPlan(epoch=1, stage=1, seed=5, first="head", padding_bytes=(1, 2), order=order)
    run._run_epoch(plan, lines.append)
    assert [side for side, _ in calls] == ["base", "head", "head", "base"][: len(calls)]
    assert calls[0][1].count
    assert (calls[2][1].timed, calls[2][1].wanted, calls[2][1].hash_seed) == (True, (TEST, OTHER), 5)
    return lines


def test_an_epoch_is_one_figure_per_test_and_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = gate(tmp_path, monkeypatch, result(times_s={TEST: 2e-3, OTHER: math.nan}))
    blocks = {line.case: line for line in lines if isinstance(line, Blocks)}
    assert (blocks[TEST].base_s, blocks[TEST].head_s, blocks[TEST].head_first) == ((1e-3,), (2e-3,), (True,))
    assert blocks[OTHER].head_s == (None,)
    assert blocks[CONTROLS[1]].base_s == (2e-3,)
    assert len([line for line in lines if isinstance(line, Counted)]) == 4


def test_a_test_that_fails_or_measures_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = {TEST: HowEnded(outcome="failed", told=TRACE), OTHER: HowEnded(outcome="passed")}
    lines = gate(tmp_path, monkeypatch, result(ended=ended, times_s={}))
    failed = {line.case: line for line in lines if isinstance(line, Failed)}
    assert (failed[TEST].side, failed[TEST].message) == ("head", "ValueError: no")
    assert "the fixture was never called" in failed[OTHER].message


def test_a_process_that_dies_fails_every_case_of_its_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = gate(tmp_path, monkeypatch, SideLostError("it died", "its log"))
    assert [line.outcome for line in lines if isinstance(line, Counted)] == ["ok", "ok", "error", "error"]
    assert {line.case: line.detail for line in lines if isinstance(line, Failed)} == {TEST: "its log", OTHER: "its log"}


def test_what_is_no_number_is_red_and_a_tolerance_is_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = gate(tmp_path, monkeypatch, result(times_s={TEST: math.nan, OTHER: 1e-3}))
    plan = EpochPlan(epoch=1, stage=1, seed=5, first="head", padding_bytes=(1, 2), order=())
    manifest = sample_manifest(
        cases=(suite_case(TEST), suite_case(OTHER)), runner="pytest", tests={TEST: MarkerAsk(tolerance_frac=0.02)}
    )
    log: list[Line] = [
        *lines[:4],
        Ended(epoch=0, elapsed_s=1.0),
        Began(plan=plan),
        *lines[4:],
        Ended(epoch=1, elapsed_s=1.0),
    ]
    assert {c.case: c.status for c in conclude(manifest, log).cases}[TEST] == "ERROR"
    assert preset_of(manifest, TEST).target_frac == 0.02
    assert preset_of(manifest, OTHER).target_frac == manifest.preset.target_frac


def test_tests_of_both_sides_are_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "base": result(tests={TEST: {}, "gone.py::x": {}, "bad.py::y": {}}),
        "head": result(tests={TEST: {"tolerance": 0.1}, OTHER: {"tolerance": "5%"}}, errors={"bad.py": TRACE}),
    }
    monkeypatch.setattr(pytest_run, "run_pytest", lambda side, *_: found[side.side])
    sides: Any = {name: checkout(name, tmp_path) for name in found}
    cases, tests = collect(sides, ["x"], tmp_path)
    assert {c.name: (c.base is not None, c.head is not None) for c in cases} == {
        TEST: (True, True),
        OTHER: (False, True),
        "gone.py::x": (True, False),
        "bad.py": (True, True),
    }
    assert tests[TEST] == MarkerAsk(tolerance_frac=0.1)
    assert tests[OTHER] == MarkerAsk()


def test_a_pytest_that_cannot_start_is_told_with_its_last_lines(tmp_path: Path) -> None:
    side = Checkout(side="head", python=sys.executable, root=tmp_path, folder=tmp_path, working_tree=tmp_path)
    with pytest.raises(SideLostError, match="exit code 4") as lost:
        run_pytest(side, PytestCall(arguments=("no_such_file.py",), collect_only=True), tmp_path, "c")
    assert "no_such_file.py" in lost.value.log


GOOD = "def test_fine(benchmark):\n    benchmark(len, ())\n"
FINE = "test_good.py::test_fine"


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """Two files of tests, one of which cannot be imported. Its pytest is not one of our workers."""
    pytest.importorskip("pytest_benchmark")
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "suite"
    root.mkdir()
    (root / "pytest.ini").write_text("[pytest]\n")
    (root / "test_bad.py").write_text("import no_such_module\n")
    (root / "test_good.py").write_text(GOOD)
    return Checkout(side="head", python=sys.executable, root=root, folder=root, working_tree=root)


@pytest.mark.parametrize("how", [{"collect_only": True}, {"count": True}, {"timed": True}], ids=str)
def test_a_file_that_cannot_be_imported_takes_no_other_with_it(
    suite: Checkout, tmp_path: Path, how: dict[str, Any]
) -> None:
    found = run_pytest(suite, PytestCall(arguments=("--benchmark-max-time=0.02",), **how), tmp_path, "c")
    assert list(found.errors) == ["test_bad.py"]
    assert list(found.tests) == [FINE]
    assert {n: e.outcome for n, e in found.ended.items()} == ({} if how.get("collect_only") else {FINE: "passed"})
    assert list(found.times_s) == ([FINE] if how.get("timed") else [])


ADDOPTS = (
    "--benchmark-only --benchmark-skip --benchmark-disable --benchmark-enable --benchmark-autosave --benchmark-compare "
    "--benchmark-compare-fail=min:1% -x"
)


@pytest.mark.parametrize("how", [{"collect_only": True}, {"count": True}, {"timed": True}], ids=str)
def test_what_addopts_say_of_other_runs_is_not_for_the_gate(
    suite: Checkout, tmp_path: Path, how: dict[str, Any]
) -> None:
    addopts = ADDOPTS + (" --dist=loadfile" if importlib.util.find_spec("xdist") else "")
    (suite.root / "pytest.ini").write_text(f"[pytest]\naddopts = {addopts}\n")
    found = run_pytest(suite, PytestCall(arguments=("--benchmark-max-time=0.02",), **how), tmp_path, "c")
    assert list(found.tests) == [FINE]
    assert {n: e.outcome for n, e in found.ended.items()} == ({} if how.get("collect_only") else {FINE: "passed"})
    assert list(found.times_s) == ([FINE] if how.get("timed") else [])
    assert not list(suite.root.rglob("*.json"))


def test_a_suite_of_more_names_than_an_environment_holds_is_asked_for(suite: Checkout, tmp_path: Path) -> None:
    names = tuple(f"test_good.py::test_fine[{number:0100}]" for number in range(3000))
    found = run_pytest(suite, PytestCall(arguments=(), wanted=(*names, FINE)), tmp_path, "c")
    assert list(found.ended) == [FINE]
    assert run_pytest(suite, PytestCall(arguments=(), wanted=names), tmp_path, "c").ended == {}
