"""A live self-test's tables and sentences, which the terminal and the page share."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench.gate.redraw import Redrawn
from bench.gate.render.words import short_names, time_cell
from bench.gate.selftest_live import LiveReport
from bench.progress import seconds

Rows = tuple[list[str], list[list[str]]]
"""Column titles, and rows of as many cells."""


def case_rows(report: LiveReport) -> Rows:
    """Every case over all epochs: its spread, and its difference from no change."""
    columns = ["case", "step", "epochs", "sd(d)", "median |d| / 0.67", "difference [95 %]", "p"]
    rows = [
        [
            c.case,
            time_cell(c.base_step_s),
            str(c.epochs),
            f"{100 * c.sd_frac:.2f} %",
            f"{100 * c.spread_frac:.2f} %",
            f"{100 * c.bias_frac:+.2f} % [{_bound(c.low_frac)}, {_bound(c.high_frac)}]",
            f"{c.p_two_sided:.2g}",
        ]
        for c in report.cases
    ]
    return columns, rows


def redrawn_rows(redrawn: Redrawn) -> Rows:
    """What became of every case at every effect, as shares of the draws."""
    effects = list(redrawn.any_frac)
    columns = ["case", *("unchanged" if e == "0" else f"+{100 * float(e):g} %" for e in effects)]
    rows = [
        [name, *(f"{_share(o.detected_frac)} / {_share(o.inconclusive_frac)} / {_share(o.passed_frac)}" for o in found)]
        for name, found in zip(short_names(list(redrawn.cases)), redrawn.cases.values(), strict=True)
    ]
    rows.append(["any case fails", *(_share(redrawn.any_frac[e]) for e in effects)])
    return columns, rows


def redrawn_sentence(redrawn: Redrawn) -> str:
    """How the draws were made, and how many runs of unchanged code would fail."""
    how = f"{redrawn.chunks} disjoint chunks of {redrawn.epochs_per_chunk} epochs"
    if not redrawn.chunks:
        how = f"epochs drawn with replacement, {redrawn.epochs_per_chunk} being one run"
    return (
        f"{redrawn.draws:,} draws of random signs on {redrawn.epochs} recorded epochs ({how}): "
        f"{100 * redrawn.any_frac.get('0', 0.0):.2g} % of runs of unchanged code would fail."
    )


def run_sentences(report: LiveReport) -> list[str]:
    """The gates as a whole: verdicts, time, each false failure, and the bound or what was detected."""
    told = ", ".join(f"{n} {s}" for s, n in report.verdicts.items())
    return [
        f"{report.runs} gates, {report.invalid_runs} of them invalid; verdicts: {told}.",
        f"A gate took {seconds(median(report.gate_s))}, the longest {seconds(max(report.gate_s))}.",
        *(() if report.injected_frac else report.failures),
        outcome(report),
    ]


def outcome(report: LiveReport) -> str:
    """False failures and their bound, or what became of the cases that were slowed."""
    if not report.injected_frac:
        bound = f"at most {100 * report.failed_at_most_frac:.2g} % (95 % bound)"
        return f"{report.failed} of {report.judged} unchanged cases failed: {bound}."
    unsure, missed = report.verdicts.get("INCONCLUSIVE", 0), report.verdicts.get("PASS", 0)
    return (
        f"Slowed by exactly {100 * report.injected_frac:g} %: {report.failed} of {report.judged} detected, "
        f"{unsure} inconclusive, {missed} missed."
    )


def gate_rows(report: LiveReport) -> Rows:
    """Every gate: its length and exit code."""
    pairs: Sequence[tuple[float, int]] = list(zip(report.gate_s, report.exit_codes, strict=True))
    return ["gate", "took", "exit code"], [[str(n), seconds(s), str(code)] for n, (s, code) in enumerate(pairs, 1)]


def _share(fraction: float) -> str:
    """96, 9.6 or 0.96: three such figures stand in one cell."""
    percent = 100 * fraction
    return f"{percent:.0f}" if percent >= 9.95 else f"{percent:.2g}"


def _bound(fraction: float | None) -> str:
    return "?" if fraction is None else f"{100 * fraction:+.2f} %"
