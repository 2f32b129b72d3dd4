"""What a live self-test prints: per case bias, spread and outcomes over effects; per run verdicts and the bound."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench.commands.output import print_json, print_table
from bench.gate.conclude import conclude
from bench.gate.redraw import Redrawn
from bench.gate.selftest_live import LiveReport, Run, upper_bound
from bench.progress import seconds


def running_bound(runs: Sequence[Run]) -> str:
    """How many cases failed so far, and the rate that leaves possible."""
    statuses = [c.status for manifest, lines in runs for c in conclude(manifest, lines).cases]
    failed = statuses.count("REGRESSED")
    most = upper_bound(failed, len(statuses))
    return f"so far {failed} of {len(statuses)} cases failed: at most {100 * most:.2g} % (95 % bound)"


def print_live(report: LiveReport, *, as_json: bool) -> None:
    """All of a report."""
    if as_json:
        print_json(report)
        return
    _print_cases(report)
    if report.redrawn is not None:
        _print_redrawn(report.redrawn)
    _print_runs(report)


def _print_cases(report: LiveReport) -> None:
    columns = ["case", "step", "epochs", "sd(d)", "median |d| / 0.67", "difference [95 %]", "p"]
    rows = [
        [
            c.case,
            seconds(c.base_step_s) if c.base_step_s >= 1 else f"{1e3 * c.base_step_s:.2f} ms",
            str(c.epochs),
            f"{100 * c.sd_frac:.2f} %",
            f"{100 * c.spread_frac:.2f} %",
            f"{100 * c.bias_frac:+.2f} % [{_bound(c.low_frac)}, {_bound(c.high_frac)}]",
            f"{c.p_two_sided:.2g}",
        ]
        for c in report.cases
    ]
    print_table(f"selftest {report.kind}", columns, rows, right=list(range(1, len(columns))))


def _print_redrawn(redrawn: Redrawn) -> None:
    effects = list(redrawn.any_frac)
    columns = ["case", *("unchanged" if e == "0" else f"+{100 * float(e):g} %" for e in effects)]
    rows = [
        [name, *(f"{_share(o.detected_frac)} / {_share(o.inconclusive_frac)} / {_share(o.passed_frac)}" for o in found)]
        for name, found in redrawn.cases.items()
    ]
    rows.append(["any case fails", *(_share(redrawn.any_frac[e]) for e in effects)])
    print_table("failed / inconclusive / passed, % of draws", columns, rows, right=list(range(1, len(columns))))
    how = f"{redrawn.chunks} disjoint chunks of {redrawn.epochs_per_chunk} epochs"
    if not redrawn.chunks:
        how = f"epochs drawn with replacement, {redrawn.epochs_per_chunk} being one run"
    false = redrawn.any_frac.get("0", 0.0)
    print(
        f"{redrawn.draws:,} draws of random signs on {redrawn.epochs} recorded epochs ({how}): "
        f"{100 * false:.2g} % of runs of unchanged code would fail."
    )


def _share(fraction: float) -> str:
    return f"{100 * fraction:.3g}"


def _print_runs(report: LiveReport) -> None:
    told = ", ".join(f"{n} {s}" for s, n in report.verdicts.items())
    print(f"{report.runs} gates, {report.invalid_runs} of them invalid; verdicts: {told}.")
    print(f"A gate took {seconds(median(report.gate_s))}, the longest {seconds(max(report.gate_s))}.")
    for failure in report.failures:
        print(failure)
    bound = f"at most {100 * report.failed_at_most_frac:.2g} % (95 % bound)"
    if not report.injected_frac:
        print(f"{report.failed} of {report.judged} unchanged cases failed: {bound}.")
        return
    unsure, missed = report.verdicts.get("INCONCLUSIVE", 0), report.verdicts.get("PASS", 0)
    print(
        f"Slowed by exactly {100 * report.injected_frac:g} %: {report.failed} of {report.judged} detected, "
        f"{unsure} inconclusive, {missed} missed."
    )


def _bound(fraction: float | None) -> str:
    return "?" if fraction is None else f"{100 * fraction:+.2f} %"
