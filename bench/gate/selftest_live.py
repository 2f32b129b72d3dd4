"""What real gate runs of one revision against itself say: false failures, bias, spread, power. Pure over their logs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import stdev

import msgspec

from bench.gate.conclude import conclude
from bench.gate.ledger import Ledger
from bench.gate.log import GateManifest, Line
from bench.gate.redraw import Recorded, Redrawn, redraw
from bench.gate.sample_size import spread
from bench.gate.schedule import preset_of, timed_cases
from bench.gate.signed_rank import hodges_lehmann, interval, tails
from bench.gate.verdict import GateReport, exit_code

CONFIDENCE = 0.95
JUDGED = ("PASS", "IMPROVED", "INCONCLUSIVE", "REGRESSED")
Run = tuple[GateManifest, Sequence[Line]]


class CaseFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One case over all epochs of all runs.

    bias_frac and its interval: Hodges-Lehmann of the differences, which unchanged code leaves at 0 (a run with an
    injected change at that change). sd_frac: their standard deviation between epochs; spread_frac: the same from the
    median size, as the gate plans by it.
    """

    case: str
    epochs: int
    base_step_s: float
    sd_frac: float
    spread_frac: float
    bias_frac: float
    low_frac: float | None
    high_frac: float | None
    p_two_sided: float


class LiveReport(msgspec.Struct, frozen=True, kw_only=True):
    """All runs together. `failed` counts REGRESSED verdicts; failed_at_most is its rate's upper 95 % bound.

    judged: cases that could have failed, which leaves out what could not run and what an invalid run took back. The
    bound takes them as independent, though the cases of one gate share its epochs: redrawn does not.
    failures: each failed case in words. gate_s: how long each run took. redrawn: only where nothing was injected.
    """

    schema_version: int
    kind: str
    injected_frac: float
    disturbed_by: tuple[str, ...]
    machine: str
    preset: str
    runs: int
    gate_s: tuple[float, ...]
    verdicts: dict[str, int]
    judged: int
    failed: int
    failed_at_most_frac: float
    failures: tuple[str, ...]
    invalid_runs: int
    exit_codes: tuple[int, ...]
    cases: tuple[CaseFinding, ...]
    redrawn: Redrawn | None = None


def live_report(kind: str, runs: Sequence[Run], injected_frac: float, disturbed_by: Sequence[str]) -> LiveReport:
    """Judge every run again and put them together."""
    reports = [conclude(manifest, lines) for manifest, lines in runs]
    ledgers = [Ledger(lines) for _, lines in runs]
    statuses = [c.status for r in reports for c in r.cases]
    failed, judged = failed_of_judged(reports)
    names = _timed(runs)
    return LiveReport(
        schema_version=2,
        kind=kind,
        injected_frac=injected_frac,
        disturbed_by=tuple(disturbed_by),
        machine=runs[0][0].machine,
        preset=runs[0][0].preset.name,
        runs=len(reports),
        gate_s=tuple(ledger.elapsed_s for ledger in ledgers),
        verdicts={s: statuses.count(s) for s in dict.fromkeys(statuses)},
        judged=judged,
        failed=failed,
        failed_at_most_frac=upper_bound(failed, judged),
        failures=_failures(reports),
        invalid_runs=sum(bool(r.invalid) for r in reports),
        exit_codes=tuple(int(exit_code(r)) for r in reports),
        cases=tuple(found for name in names if (found := _case_finding(ledgers, name))),
        redrawn=None if injected_frac else _redrawn(runs[0][0], ledgers, names),
    )


def failed_of_judged(reports: Sequence[GateReport]) -> tuple[int, int]:
    """How many cases failed, of how many that could have: judged in a run whose timings are valid."""
    statuses = [c.status for r in reports if not r.invalid for c in r.cases]
    return statuses.count("REGRESSED"), sum(s in JUDGED for s in statuses)


def _failures(reports: Sequence[GateReport]) -> tuple[str, ...]:
    return tuple(
        f"gate {number}, {case.case}: {case.reason.message}"
        for number, report in enumerate(reports, 1)
        for case in report.cases
        if case.status == "REGRESSED"
    )


def upper_bound(hits: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """The largest rate that so few hits leave possible (Clopper and Pearson, one-sided): 0 of 120 is 2.5 %."""
    if trials == 0 or hits >= trials:
        return 1.0
    from scipy import stats

    return float(stats.beta.ppf(confidence, hits + 1, trials - hits))


def _timed(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(n for manifest, lines in runs for n in timed_cases(manifest, Ledger(lines))))


def _case_finding(ledgers: Sequence[Ledger], name: str) -> CaseFinding | None:
    found = [d for ledger in ledgers for stage in (1, 2) for d in ledger.epochs_of(name, stage).differences]
    found = [d for d in found if math.isfinite(d)]
    if not found:
        return None
    low, high = interval(found, CONFIDENCE)
    return CaseFinding(
        case=name,
        epochs=len(found),
        base_step_s=_step_s(ledgers, name),
        sd_frac=stdev(found) if len(found) > 1 else math.nan,
        spread_frac=spread(found),
        bias_frac=math.expm1(hodges_lehmann(found)),
        low_frac=math.expm1(low) if math.isfinite(low) else None,
        high_frac=math.expm1(high) if math.isfinite(high) else None,
        p_two_sided=min(1.0, 2 * min(tails(found))),
    )


def _step_s(ledgers: Sequence[Ledger], name: str) -> float:
    return min((s for ledger in ledgers if math.isfinite(s := ledger.base_step_s(name))), default=math.nan)


def _redrawn(manifest: GateManifest, ledgers: Sequence[Ledger], names: Sequence[str]) -> Redrawn | None:
    """The decision on what was recorded: first stages only, since the second's epochs are of flagged cases alone."""
    shared: dict[str, list[float]] = {name: [] for name in names}
    for ledger in ledgers:
        of = {name: _usable(ledger.by_epoch(name, 1)) for name in names}
        for epoch in sorted(set.intersection(*(set(found) for found in of.values()))) if of else ():
            for name in names:
                shared[name].append(of[name][epoch])
    if not any(shared.values()):
        return None
    return redraw(
        {
            name: Recorded(
                differences=tuple(found), base_step_s=_step_s(ledgers, name), preset=preset_of(manifest, name)
            )
            for name, found in shared.items()
        }
    )


def _usable(differences: Mapping[int, float | None]) -> dict[int, float]:
    return {epoch: d for epoch, d in differences.items() if d is not None and math.isfinite(d)}
