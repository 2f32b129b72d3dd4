"""A new run against the runs of a baseline: a t-test of its distance from their scatter. Pure.

A stored run and a new one share no hour, so nothing can be paired and no sign is random: unlike the paired gate this
assumes that logarithms of runs scatter by the normal law about the revision's own speed. The scatter *between* runs is
all that counts; repeats within a run know nothing of it. With m cases each is tested at family error / m.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist, fmean, stdev

from bench.baselines.kept import Baseline, CaseSummary, KeptRun
from bench.gate.decide import percent
from bench.gate.presets import Preset, load
from bench.gate.sample_size import least_change
from bench.gate.verdict import SCHEMA_VERSION, CaseVerdict, Estimate, GateReport, Reason, Status

FOUND_FRAC = 0.975
LEAST_SD = 1e-4
"""Runs are kept with six digits: a smaller scatter than this is a chance agreement, never a better machine."""


def judge(baseline: Baseline, new: Sequence[KeptRun], preset: Preset, rerun: str = "") -> GateReport:
    """Every case of the baseline or of the new runs gets exactly one verdict."""
    names = list(dict.fromkeys([*baseline.cases, *(n for run in new for n in _known(run))]))
    tested = max(len(baseline.cases), 1)
    return GateReport(
        schema_version=SCHEMA_VERSION,
        suite=(baseline.name,),
        base=f"baseline {baseline.name} of {len(baseline.runs)} runs",
        head=", ".join(run.run for run in new),
        machine=baseline.machine,
        preset=preset,
        seed=0,
        cases=tuple(_case(baseline, new, name, preset, tested) for name in names),
        notes=(
            f"accepted {baseline.accepted_at}: {baseline.reason}",
            "a stored baseline takes a slower day for a slower revision; gate --base REV pairs them and does not",
        ),
        rerun=rerun,
    )


def not_comparable(baseline: Baseline, new: Sequence[KeptRun], preset: Preset, told: str, rerun: str) -> GateReport:
    """The report on runs of another machine: nothing is compared."""
    made = judge(baseline, (), preset, rerun)
    cases = [CaseVerdict(case=n, status="NOT_COMPARABLE", reason=Reason("machine", told)) for n in baseline.cases]
    return GateReport(
        schema_version=SCHEMA_VERSION,
        suite=made.suite,
        base=made.base,
        head=", ".join(run.run for run in new),
        machine=made.machine,
        preset=preset,
        seed=0,
        cases=tuple(cases),
        notes=made.notes[:1],
        rerun=rerun,
    )


def _known(run: KeptRun) -> list[str]:
    return [*run.step_s, *run.failed, *run.skipped]


def _case(baseline: Baseline, new: Sequence[KeptRun], name: str, preset: Preset, tested: int) -> CaseVerdict:
    for run in new:
        if name in run.failed:
            return _verdict(name, "ERROR", "head_failed", f"{run.run}: {run.failed[name]}")
        if name in run.step_s and not _usable(run.step_s[name]):
            told = f"{run.run}: its time is not a positive number: the measurement cannot be used"
            return _verdict(name, "ERROR", "not_finite", told)
    skipped = next((run.skipped[name] for run in new if name in run.skipped), None)
    if name not in baseline.cases:
        if skipped is not None:
            return _verdict(name, "SKIPPED", "unavailable", skipped)
        return _verdict(name, "NEW", "new", "the baseline does not have it")
    missing = [run.run for run in new if name not in run.step_s]
    if missing or not new:
        told = f"the baseline has it, {missing[0] if missing else 'no run'} does not"
        return _verdict(name, "MISSING", "missing", told + (f": skipped: {skipped}" if skipped else ""))
    stored, found = _logs(baseline.runs, name), _logs(new, name)
    return _tested(name, stored, found, preset, tested)


def _usable(seconds: float | None) -> bool:
    return seconds is not None and math.isfinite(seconds) and seconds > 0


def _logs(runs: Sequence[KeptRun], name: str) -> list[float]:
    return [math.log(s) for run in runs if _usable(s := run.step_s.get(name)) and s is not None]


def _verdict(case: str, status: Status, code: str, message: str) -> CaseVerdict:
    return CaseVerdict(case=case, status=status, reason=Reason(code, message))


def _tested(name: str, stored: Sequence[float], found: Sequence[float], preset: Preset, tested: int) -> CaseVerdict:
    from scipy import stats

    change, error, freedom = fmean(found) - fmean(stored), _error(stored, len(found)), len(stored) - 1
    half = float(stats.t.ppf((1 + preset.confidence) / 2, freedom)) * error
    estimate = Estimate(
        change_frac=math.expm1(change),
        low_frac=math.expm1(change - half),
        high_frac=math.expm1(change + half),
        p_regressed=float(stats.t.sf(change / error, freedom)),
        p_improved=float(stats.t.cdf(change / error, freedom)),
        epochs=len(found),
    )
    base_step_s = math.exp(fmean(stored))
    status, reason = _judged(estimate, base_step_s, preset, preset.family_error / tested)
    return CaseVerdict(
        case=name,
        status=status,
        reason=reason,
        stage1=estimate,
        base_step_s=base_step_s,
        head_step_s=math.exp(fmean(found)),
        detectable_frac=enforceable_frac(stored, preset, tested, len(found)),
    )


def _judged(found: Estimate, base_step_s: float, preset: Preset, level: float) -> tuple[Status, Reason]:
    large = abs(found.change_frac) * base_step_s >= preset.floor_s
    size, least = abs(math.log1p(found.change_frac)), math.log1p(preset.min_effect_frac)
    for status, p, word in (("REGRESSED", found.p_regressed, "slower"), ("IMPROVED", found.p_improved, "faster")):
        if p <= level and size >= least and large:
            told = f"{percent(abs(found.change_frac))} {word} than the baseline's runs (p = {p:.2g} <= {level:.2g})"
            return status, Reason("confirmed", told)  # type: ignore[return-value]
    high = found.high_frac or 0.0
    if high < preset.target_frac or high * base_step_s < preset.floor_s:
        told = f"at most {percent(high, '+')}: a slow-down of {percent(preset.target_frac)} is excluded"
        return "PASS", Reason("excluded", told)
    told = f"a slow-down up to {percent(high, '+')} is possible, more than the target of {percent(preset.target_frac)}"
    return "INCONCLUSIVE", Reason("noise", told)


def _error(stored: Sequence[float], new_runs: int) -> float:
    """Standard error of (mean of new runs - mean of stored ones)."""
    return max(stdev(stored), LEAST_SD) * math.sqrt(1 / new_runs + 1 / len(stored))


def enforceable_frac(stored: Sequence[float], preset: Preset, tested: int, new_runs: int = 1) -> float:
    """The slow-down that new runs of it fail for 39 times in 40; `stored`: logarithms of the runs' times in seconds.

    Large enough to be significant, and for its estimate to lie above the minimum effect and the floor.
    """
    away, error = _away(len(stored) - 1, preset.family_error / tested), _error(stored, new_runs)
    above = least_change(preset, math.exp(fmean(stored))) + NormalDist().inv_cdf(FOUND_FRAC) * error
    return math.expm1(min(max(away * error, above), 700.0))


@lru_cache(maxsize=256)
def _away(freedom: int, level: float) -> float:
    """How many standard errors away a run is found 39 times in 40: by the noncentral t law."""
    from scipy import optimize, stats

    critical = float(stats.t.isf(level, freedom))
    most = 10 * critical + 100.0
    return float(optimize.brentq(lambda d: float(stats.nct.sf(critical, freedom, d)) - FOUND_FRAC, 0.0, most))


def summaries(runs: Sequence[KeptRun]) -> dict[str, CaseSummary]:
    """Each case of all runs, for the file's reader."""
    names = list(runs[0].step_s)
    preset, found = load("default"), {}
    for name in names:
        stored = _logs(runs, name)
        found[name] = CaseSummary(
            step_s=_rounded(math.exp(fmean(stored))),
            sd_frac=_rounded(stdev(stored), 3),
            enforceable_frac=_rounded(enforceable_frac(stored, preset, len(names)), 3),
        )
    return found


def _rounded(value: float, digits: int = 6) -> float:
    return float(f"{value:.{digits}g}")
