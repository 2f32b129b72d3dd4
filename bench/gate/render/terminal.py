"""The report as a table for people."""

from __future__ import annotations

from bench.commands.output import print_table
from bench.gate.render.words import COLUMNS, circumstances, detectable, row, worst_first
from bench.gate.verdict import GateReport, headline


def print_report(report: GateReport) -> None:
    """Table and sentences on stdout."""
    print_table("gate", COLUMNS, [row(c) for c in worst_first(report)], right=[1, 2, 3, 4])
    for case in report.cases:
        if case.detail:
            print(f"\n{case.case}: {case.reason.message}\n{case.detail}\n")
    print("\n".join([*circumstances(report), *filter(None, [detectable(report)])]))
    print(headline(report))
