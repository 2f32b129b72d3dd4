"""What a live self-test prints: per case bias, spread and outcomes over effects; per run verdicts and the bound."""

from __future__ import annotations

from collections.abc import Sequence

from bench.commands.output import print_json, print_table
from bench.gate.conclude import conclude
from bench.gate.render.selftest_words import Rows, case_rows, redrawn_rows, redrawn_sentence, run_sentences
from bench.gate.selftest_live import LiveReport, Run, failed_of_judged, upper_bound


def so_far(runs: Sequence[Run], injected_frac: float) -> str:
    """How many cases failed so far: of unchanged code with the rate that leaves possible, of slowed code as found."""
    failed, judged = failed_of_judged([conclude(manifest, lines) for manifest, lines in runs])
    if injected_frac:
        return f"so far {failed} of {judged} slowed cases were found"
    return f"so far {failed} of {judged} cases failed: at most {100 * upper_bound(failed, judged):.2g} % (95 % bound)"


def print_live(report: LiveReport, *, as_json: bool) -> None:
    """All of a report."""
    if as_json:
        print_json(report)
        return
    _print(f"selftest {report.kind}", case_rows(report))
    if report.redrawn is not None:
        _print("failed / inconclusive / passed, % of draws", redrawn_rows(report.redrawn))
        print(redrawn_sentence(report.redrawn))
    print("\n".join(run_sentences(report)))


def _print(title: str, table: Rows) -> None:
    columns, rows = table
    print_table(title, columns, rows, right=list(range(1, len(columns))))
