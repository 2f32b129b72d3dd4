"""A live self-test as a page: how often the gate fails what did not change, and finds what did."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bench.gate.ledger import Ledger, changes_of
from bench.gate.plots import changes, power
from bench.gate.render.selftest_words import (
    Rows,
    case_rows,
    gate_rows,
    outcome,
    redrawn_rows,
    redrawn_sentence,
    run_sentences,
)
from bench.gate.selftest_live import CaseFinding, LiveReport
from bench.reporting.cases import Cell, Column
from bench.reporting.page import Page
from bench.reporting.pictures import Drawing
from bench.reporting.verdict import Sentence
from bench.sections import Section, Table

TITLES = {
    "aa": "A revision against itself",
    "power": "A slow-down of known size",
    "hostile": "A revision against itself, disturbed",
}


def page(report: LiveReport) -> Page:
    """What held, epochs by case, the decision on redrawn signs, and every gate."""
    verdict = [Sentence("Gates", outcome(report))]
    sections = [Section("epochs", "Every epoch", plots=("changes",))]
    if report.redrawn is not None:
        verdict.append(Sentence("Redrawn", redrawn_sentence(report.redrawn)))
        sections.insert(0, Section("power", "At each slow-down", plots=("power",)))
        text = ("Failed / inconclusive / passed, % of draws.",)
        sections.append(Section("draws", "Every slow-down by case", text, (_table(redrawn_rows(report.redrawn)),)))
    spread = ("sd(d) is the spread between epochs, each of which is a fresh process of either side.",)
    sections += [
        Section("spread", "Spread and difference by case", spread, (_table(case_rows(report)),)),
        Section("gates", "Gates", tables=(_table(gate_rows(report)),), notes=tuple(run_sentences(report))),
    ]
    return Page(
        title=f"Self-test of the gate: {TITLES[report.kind]}",
        subtitle="; ".join([report.machine, f"preset {report.preset}", *report.disturbed_by]),
        verdict=tuple(verdict),
        sections=tuple(sections),
        commands=(("Judge the same epochs again", "dlrm-bench selftest judge DIR"),),
    )


def _table(found: Rows) -> Table:
    columns, rows = found
    kinds = (Column(columns[0], kind="text"), *(Column(title) for title in columns[1:]))
    return Table("", kinds, tuple(tuple(map(Cell, row)) for row in rows))


def drawings(report: LiveReport, ledgers: Sequence[Ledger]) -> list[Drawing]:
    """All epochs by case, and the curves of what is found."""
    rows = [_changed(found, ledgers) for found in report.cases]
    marks = {"injected": report.injected_frac} if report.injected_frac else {}
    made = [
        Drawing(
            "changes", changes.TITLE, changes.CAPTION, partial(changes.alt, rows), partial(changes.draw, rows, marks)
        )
    ]
    if report.redrawn is not None:
        redrawn = report.redrawn
        made.append(
            Drawing("power", power.TITLE, power.CAPTION, partial(power.alt, redrawn), partial(power.draw, redrawn))
        )
    return made


def _changed(found: CaseFinding, ledgers: Sequence[Ledger]) -> changes.Changed:
    screened, confirmed = (changes_of(ledgers, found.case, stage) for stage in (1, 2))
    return changes.Changed(found.case, "PASS", screened, confirmed, found.bias_frac, found.low_frac, found.high_frac)
