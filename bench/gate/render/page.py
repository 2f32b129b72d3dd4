"""The gate's report as a page with its picture."""

from __future__ import annotations

from functools import partial

from bench.gate.ledger import Ledger, changes_of
from bench.gate.plots import changes
from bench.gate.render.words import COLUMNS, circumstances, detectable, row, worst_first
from bench.gate.verdict import CaseVerdict, GateReport, headline
from bench.reporting.cases import Cell, Column
from bench.reporting.page import Page
from bench.reporting.pictures import Drawing
from bench.reporting.verdict import Sentence
from bench.sections import Section, Table

KINDS = ("text", "number", "number", "number", "number", "flag", "wide")


def page(report: GateReport) -> Page:
    """Verdict, cases, controls and how it was decided."""
    verdict = [Sentence("Cases", headline(report)), *(Sentence("Invalid", f"{r.message}.") for r in report.invalid)]
    if (size := detectable(report)) is not None:
        verdict.append(Sentence("Sensitivity", size))
    sections = [Section("cases", "Cases", tables=(_table(worst_first(report)),))]
    if any(case.estimate for case in (*report.cases, *report.controls)):
        sections.insert(0, Section("epochs", "Every epoch", plots=("changes",)))
    if report.controls:
        text = ("The same few lines on both sides. Where they differ, something favours one side.",)
        sections.append(Section("controls", "Null controls", text, (_table(report.controls),)))
    decided = Section("decided", "How it was decided", notes=tuple(circumstances(report)))
    return Page(
        title=f"Gate: {' '.join(report.suite)}",
        subtitle=f"{report.base} against {report.head}",
        verdict=tuple(verdict),
        sections=(*sections, decided),
        commands=(("The same gate", report.rerun),),
    )


def _table(cases: list[CaseVerdict] | tuple[CaseVerdict, ...]) -> Table:
    columns = tuple(Column(title, kind=kind) for title, kind in zip(COLUMNS, KINDS, strict=True))  # type: ignore[arg-type]
    return Table("", columns, tuple(tuple(map(Cell, row(case))) for case in cases))


def drawings(report: GateReport, ledger: Ledger) -> list[Drawing]:
    """The picture of all changes, controls last."""
    rows = [found for case in (*worst_first(report), *report.controls) if (found := changed(case, ledger))]
    marks = {"target": report.preset.target_frac}
    return [
        Drawing(
            "changes",
            changes.TITLE,
            changes.CAPTION,
            partial(changes.alt, rows),
            partial(changes.draw, rows, marks),
        )
    ]


def changed(case: CaseVerdict, ledger: Ledger) -> changes.Changed | None:
    """One row; None where nothing was timed."""
    found = case.estimate
    if found is None:
        return None
    screened, confirmed = (changes_of([ledger], case.case, stage) for stage in (1, 2))
    return changes.Changed(
        case.case, case.status, screened, confirmed, found.change_frac, found.low_frac, found.high_frac
    )
