"""What real gate runs of one revision against itself say: false failures, bias, spread, power. Pure over their logs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from bench.gate.conclude import conclude
from bench.gate.ledger import Ledger
from bench.gate.log import GateManifest, Line
from bench.gate.sample_size import spread
from bench.gate.schedule import preset_of, timed_cases
from bench.gate.signed_rank import hodges_lehmann, interval, tails
from bench.gate.simulation import resample
from bench.gate.verdict import exit_code

DRAWS = 2_000
EFFECTS_FRAC = (0.01, 0.02, 0.03, 0.05, 0.07, 0.10)
CONFIDENCE = 0.95
Run = tuple[GateManifest, Sequence[Line]]


class CaseFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One case over all epochs of all runs.

    bias_frac and its interval: Hodges-Lehmann of the differences, which unchanged code leaves at 0 (a run with an
    injected change at that change). power_frac: effect -> share of re-drawn runs that fail, from these epochs' sizes
    with signs drawn anew (only without injection); its entry "0" is the rate of false failures.
    """

    case: str
    epochs: int
    spread_frac: float
    bias_frac: float
    low_frac: float | None
    high_frac: float | None
    p_two_sided: float
    power_frac: dict[str, float]


class LiveReport(msgspec.Struct, frozen=True, kw_only=True):
    """All runs together. `failed` counts REGRESSED verdicts; failed_at_most is its rate's upper 95 % bound."""

    schema_version: int
    kind: str
    injected_frac: float
    disturbed_by: tuple[str, ...]
    runs: int
    verdicts: dict[str, int]
    judged: int
    failed: int
    failed_at_most_frac: float
    invalid_runs: int
    exit_codes: tuple[int, ...]
    cases: tuple[CaseFinding, ...]


def live_report(kind: str, runs: Sequence[Run], injected_frac: float, disturbed_by: Sequence[str]) -> LiveReport:
    """Judge every run again and put them together."""
    reports = [conclude(manifest, lines) for manifest, lines in runs]
    statuses = [c.status for r in reports for c in r.cases]
    failed = statuses.count("REGRESSED")
    return LiveReport(
        schema_version=1,
        kind=kind,
        injected_frac=injected_frac,
        disturbed_by=tuple(disturbed_by),
        runs=len(reports),
        verdicts={s: statuses.count(s) for s in dict.fromkeys(statuses)},
        judged=len(statuses),
        failed=failed,
        failed_at_most_frac=upper_bound(failed, len(statuses)),
        invalid_runs=sum(bool(r.invalid) for r in reports),
        exit_codes=tuple(int(exit_code(r)) for r in reports),
        cases=tuple(_case_finding(runs, name, injected_frac) for name in _timed(runs)),
    )


def upper_bound(hits: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """The largest rate that so few hits leave possible (Clopper and Pearson, one-sided): 0 of 120 is 2.5 %."""
    if trials == 0 or hits >= trials:
        return 1.0
    from scipy import stats

    return float(stats.beta.ppf(confidence, hits + 1, trials - hits))


def _timed(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(n for manifest, lines in runs for n in timed_cases(manifest, Ledger(lines))))


def _case_finding(runs: Sequence[Run], name: str, injected_frac: float) -> CaseFinding:
    ledgers = [Ledger(lines) for _, lines in runs]
    found = [d for ledger in ledgers for stage in (1, 2) for d in ledger.epochs_of(name, stage).differences]
    found = [d for d in found if math.isfinite(d)][:64]
    if not found:
        return CaseFinding(
            case=name, epochs=0, spread_frac=0, bias_frac=0, low_frac=None, high_frac=None, p_two_sided=1, power_frac={}
        )
    low, high = interval(found, CONFIDENCE)
    manifest = runs[0][0]
    preset, num_cases = preset_of(manifest, name), max(len(_timed(runs)), 1)
    effects = () if injected_frac else (0.0, *EFFECTS_FRAC)
    return CaseFinding(
        case=name,
        epochs=len(found),
        spread_frac=spread(found),
        bias_frac=math.expm1(hodges_lehmann(found)),
        low_frac=math.expm1(low) if math.isfinite(low) else None,
        high_frac=math.expm1(high) if math.isfinite(high) else None,
        p_two_sided=min(1.0, 2 * min(tails(found))),
        power_frac={f"{e:g}": float(resample(found, DRAWS, 1, preset, num_cases, e).failed.mean()) for e in effects},
    )
