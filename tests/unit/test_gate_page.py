"""The pages of a gate and of a live self-test: every case and epoch is there, and nothing is fetched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path

import pytest

from bench.gate.conclude import conclude
from bench.gate.ledger import CONTROLS, Ledger
from bench.gate.plots import changes, power
from bench.gate.plots.changes import Changed
from bench.gate.render import page as gate_page
from bench.gate.render import selftest_page
from bench.gate.render.words import short_names
from bench.gate.selftest_live import live_report
from bench.gate.suite import Place, suite_cases
from bench.plots import style
from bench.reporting.page import render_page
from bench.reporting.pictures import drawn
from tests.sample_gate import CHANGES, sample_lines, sample_manifest, suite_case
from tests.unit.test_gate_replay import two_stages

LEDGER = Ledger(sample_lines())
REPORT = conclude(sample_manifest(), sample_lines())


def words(html: str) -> str:
    return unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL))


def fetched(html: str) -> Sequence[str]:
    return [uri for uri in re.findall(r'(?:src|srcset|href)="([^"]*)"', html) if not uri.startswith(("data:", "#"))]


def test_the_gates_page_tells_every_case_and_shows_every_timed_one() -> None:
    pictures = drawn(gate_page.drawings(REPORT, LEDGER))
    html = render_page(gate_page.page(REPORT), pictures)
    told = words(html)
    for case in (*REPORT.cases, *REPORT.controls):
        assert case.case in told
        assert case.status in told
        assert case.reason.message in told
    (picture,) = pictures
    assert all(name in picture.alt for name in CHANGES)
    assert [s.media != "" for s in picture.sources] == [True, True, True, False]
    assert not fetched(html)
    assert "<script" not in html


def test_a_gate_of_counters_only_has_a_page_without_a_picture() -> None:
    manifest = sample_manifest(counters_only=True)
    report = conclude(manifest, sample_lines()[:0])
    assert drawn(gate_page.drawings(report, Ledger([]))) == []
    assert "Null controls" not in render_page(gate_page.page(report))


def test_a_row_holds_the_epochs_of_both_stages() -> None:
    slower = next(c for c in REPORT.cases if c.case == "steps.py:slower")
    row = gate_page.changed(slower, LEDGER)
    assert row is not None
    assert (len(row.screened), len(row.confirmed)) == tuple(
        len(LEDGER.epochs_of(slower.case, stage).differences) for stage in (1, 2)
    )
    assert row.change == pytest.approx(0.10, abs=0.02)
    assert min(row.confirmed) < row.change < max(row.confirmed)
    raised = next(c for c in REPORT.cases if c.status == "ERROR" and c.estimate is None)
    assert gate_page.changed(raised, LEDGER) is None


def row(name: str, *dots: float, low: float | None = -0.01) -> Changed:
    return Changed(name, "PASS", dots, (), 0.0, low, 0.01)


def test_a_dot_far_outside_and_a_bound_that_is_not_there_stay_in_the_picture() -> None:
    rows = [row("a", *[0.001 * n for n in range(-20, 20)], 9.0, low=None)]
    with style.using("light", "wide"):
        made = changes.draw(rows, {"target": 0.05})
        assert made is not None
        low, high = made.axes[0].get_xlim()
    assert -low == high == pytest.approx(1.08 * 0.055)
    dots = [x for collection in made.axes[0].collections for x, _ in collection.get_offsets()]
    assert len(dots) == 41
    assert max(dots) == high
    assert changes.draw([], {}) is None


def test_names_say_only_what_most_cases_of_their_preset_are_not() -> None:
    names = ["paper dim=8 backend=x", "paper dim=4 backend=x", "paper dim=4 backend=y", "tiny dim=8 backend=x"]
    assert short_names(names) == ["paper dim=8", "paper", "paper backend=y", "tiny dim=8 backend=x"]
    assert short_names(["a x=1 y=2", "a x=1 y=2 z=3", "a y=2"]) == ["a", "a z=3", "a x=usual"]
    assert short_names(["steps.py:one", "steps.py:two"]) == ["steps.py:one", "steps.py:two"]
    assert short_names([]) == []


def test_short_names_of_our_own_suites_stay_apart() -> None:
    for sweep in ("gate", "gate20", "quick"):
        names = list(suite_cases([sweep], None, Place(root=Path.cwd(), folder=Path.cwd())))
        short = short_names([case.name for case in names])
        assert len(set(short)) == len(names)


@pytest.mark.parametrize("injected", [0.0, 0.05])
def test_a_selftests_page_shows_all_epochs_and_what_is_found(injected: float) -> None:
    manifest = sample_manifest(cases=(suite_case("mine"),))
    runs = [(manifest, two_stages("mine", injected))] * 2
    report = live_report("power" if injected else "aa", runs, injected, [])
    pictures = drawn(selftest_page.drawings(report, [Ledger(lines) for _, lines in runs]))
    html = render_page(selftest_page.page(report), pictures)
    told = words(html)
    assert "mine" in told
    assert CONTROLS[0] not in told
    assert not fetched(html)
    assert [p.name for p in pictures] == (["changes"] if injected else ["changes", "power"])
    assert ("Slowed by exactly 5 %: 2 of 2 detected" if injected else "0 of 2 unchanged cases failed") in told


def test_the_curves_end_where_the_shares_do() -> None:
    manifest = sample_manifest(cases=(suite_case("mine"),))
    report = live_report("aa", [(manifest, two_stages("mine", 0.0))] * 2, 0.0, [])
    assert report.redrawn is not None
    with style.using("dark", "narrow"):
        made = power.draw(report.redrawn)
    assert made is not None
    (line,) = made.axes[0].lines
    (found,) = report.redrawn.cases.values()
    assert list(line.get_xdata()) == [o.effect_frac for o in found]
    assert list(line.get_ydata()) == [o.detected_frac for o in found]
    assert "mine: " in power.alt(report.redrawn)
