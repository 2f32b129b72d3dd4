"""Verdicts from differences: two stages, family error, validity. Pure: numbers in, verdicts out.

A difference is one epoch's median over block pairs of ln(head) - ln(base). Stage 1 screens all cases; stage 2 judges
the flagged ones on new epochs only. A false failure needs a false flag (screen_level) and then a false confirmation
(family_error / (m screen_level)), so that over m cases P(any) <= family_error, however the cases depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from bench.gate.presets import Preset
from bench.gate.sample_size import confirm_level, detectable_frac, least_epochs, scatter
from bench.gate.signed_rank import hodges_lehmann, interval, tails
from bench.gate.verdict import CaseVerdict, CounterChange, Estimate, Reason, Status


class CaseData(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one case. stage1, stage2: one difference per epoch. `stopped`: the budget ended first."""

    case: str
    stage1: tuple[float, ...]
    stage2: tuple[float, ...] = ()
    base_step_s: float = math.nan
    excluded_frac: float = 0.0
    stopped: bool = False


def estimate(differences: Sequence[float], preset: Preset) -> Estimate:
    """Change, interval and p-values of one stage's differences."""
    found = tails(differences)
    low, high = interval(differences, preset.confidence)
    return Estimate(
        change_frac=math.expm1(hodges_lehmann(differences)),
        low_frac=_frac(low),
        high_frac=_frac(high),
        p_regressed=found.greater,
        p_improved=found.less,
        epochs=len(differences),
    )


def _frac(bound: float) -> float | None:
    return math.expm1(bound) if math.isfinite(bound) else None


def flagged(differences: Sequence[float], preset: Preset) -> bool:
    """Whether stage 1 sends the case on to stage 2: slower, or faster, at the screen's level."""
    return bool(differences) and min(tails(differences)) <= preset.screen_level


def decide(data: CaseData, preset: Preset, num_cases: int) -> CaseVerdict:
    """The verdict on one case of `num_cases`."""
    bad = _unusable(data)
    if bad is not None:
        return CaseVerdict(case=data.case, status="ERROR", reason=bad)
    first = estimate(data.stage1, preset)
    second = estimate(data.stage2, preset) if data.stage2 else None
    status, reason = _judge(data, first, second, preset, num_cases)
    decided = second or first
    return CaseVerdict(
        case=data.case,
        status=status,
        reason=reason,
        stage1=first,
        stage2=second,
        base_step_s=data.base_step_s,
        head_step_s=data.base_step_s * (1 + decided.change_frac),
        excluded_frac=data.excluded_frac,
        detectable_frac=detectable_frac(scatter((data.stage1, data.stage2)), preset, num_cases, data.base_step_s),
    )


def _unusable(data: CaseData) -> Reason | None:
    """Nothing measured, or something that is no number, is never green."""
    if not data.stage1:
        return Reason("empty", "no epoch of this case was measured")
    if not all(math.isfinite(d) for d in (*data.stage1, *data.stage2)):
        return Reason("not_finite", "a block's time is not a positive finite number: the measurement cannot be used")
    if not (math.isfinite(data.base_step_s) and data.base_step_s > 0):
        return Reason("not_finite", f"the base's step time is {data.base_step_s}, not a positive number")
    return None


def _judge(
    data: CaseData, first: Estimate, second: Estimate | None, preset: Preset, num_cases: int
) -> tuple[Status, Reason]:
    if data.excluded_frac > preset.max_excluded_frac:
        most = percent(preset.max_excluded_frac)
        told = f"{percent(data.excluded_frac)} of its block pairs were disturbed (at most {most} may be)"
        return "INCONCLUSIVE", Reason("disturbed", told)
    if not flagged(data.stage1, preset):
        return _bounded(data, first, preset, "noise")
    level = confirm_level(preset, num_cases)
    if second is None or second.epochs < least_epochs(level):
        told = f"flagged in stage 1 at p = {min(first.p_regressed, first.p_improved):.2g}, "
        return "INCONCLUSIVE", Reason("budget", told + "but the time ended before new epochs could confirm it")
    # Only what stage 1 flagged is confirmed: else either direction's flag would open the way to a false failure.
    for status, screened, p, sign in (
        ("REGRESSED", first.p_regressed, second.p_regressed, 1),
        ("IMPROVED", first.p_improved, second.p_improved, -1),
    ):
        if screened <= preset.screen_level and _confirmed(data, second, p, sign, level, preset):
            return status, _told(second, p, level)  # type: ignore[return-value]
    return _bounded(data, second, preset, "not_confirmed")


def _confirmed(data: CaseData, second: Estimate, p: float, sign: int, level: float, preset: Preset) -> bool:
    """Significant, large enough as a fraction (mirrored in ln), and large enough in seconds."""
    log_change = sign * math.log1p(second.change_frac)
    large = log_change >= math.log1p(preset.min_effect_frac)
    return p <= level and large and abs(second.change_frac) * data.base_step_s >= preset.floor_s


def _told(found: Estimate, p: float, level: float) -> Reason:
    word = "slower" if found.change_frac > 0 else "faster"
    told = (
        f"{percent(abs(found.change_frac))} {word}, confirmed on {found.epochs} new epochs (p = {p:.2g} <= {level:.2g})"
    )
    return Reason("confirmed", told)


def _bounded(data: CaseData, found: Estimate, preset: Preset, otherwise: str) -> tuple[Status, Reason]:
    """PASS where a slow-down of the target is excluded, else INCONCLUSIVE."""
    high = found.high_frac
    if high is not None and high < preset.target_frac:
        return "PASS", Reason(
            "excluded", f"at most {percent(high, '+')}: a slow-down of {percent(preset.target_frac)} is excluded"
        )
    if high is not None and high * data.base_step_s < preset.floor_s:
        told = f"at most {high * data.base_step_s * 1e6:.2g} us slower, below the floor of {preset.floor_s * 1e6:g} us"
        return "PASS", Reason("below_floor", told)
    if data.stopped:
        return "INCONCLUSIVE", Reason("budget", "the time ended before a slow-down of the target could be excluded")
    bound = "any size" if high is None else f"{percent(high, '+')}"
    told = f"a slow-down up to {bound} is possible, more than the target of {percent(preset.target_frac)}"
    if otherwise == "not_confirmed":
        told += "; stage 1's flag was not confirmed"
    return "INCONCLUSIVE", Reason(otherwise, told)


def judge_control(data: CaseData, preset: Preset) -> CaseVerdict:
    """A null control over all its epochs: identical code on both sides, so that a difference is the machine's."""
    bad = _unusable(data)
    if bad is not None:
        return CaseVerdict(case=data.case, status="ERROR", reason=bad)
    found = estimate((*data.stage1, *data.stage2), preset)
    size = abs(math.log1p(found.change_frac))
    differs = min(found.p_regressed, found.p_improved) <= preset.control_level
    if differs and size >= math.log1p(preset.min_effect_frac):
        reason = Reason(
            "control", f"identical code differs by {percent(found.change_frac, '+')}: something favours one side"
        )
        return CaseVerdict(case=data.case, status="INCONCLUSIVE", reason=reason, stage1=found)
    reason = Reason("control", f"identical code differs by {percent(found.change_frac, '+')}, within noise")
    return CaseVerdict(case=data.case, status="PASS", reason=reason, stage1=found, base_step_s=data.base_step_s)


def invalidity(controls: Sequence[CaseVerdict], excluded_frac: float, preset: Preset) -> tuple[Reason, ...]:
    """Why the run's timings decide nothing."""
    found = [Reason("control", f"{c.case}: {c.reason.message}") for c in controls if c.status != "PASS"]
    if excluded_frac > preset.max_excluded_frac:
        told = f"{percent(excluded_frac)} of all block pairs were disturbed by steal or throttling"
        found.append(Reason("disturbed", told))
    return tuple(found)


def void(verdict: CaseVerdict) -> CaseVerdict:
    """The verdict in an invalid run: what timing decided is taken back."""
    timed = verdict.status in ("PASS", "IMPROVED") or (
        verdict.status == "REGRESSED" and verdict.reason.code == "confirmed"
    )
    if not timed:
        return verdict
    reason = Reason("run_invalid", f"the run is invalid; it would have been {verdict.status}: {verdict.reason.message}")
    return msgspec.structs.replace(verdict, status="INCONCLUSIVE", reason=reason)


def with_counters(verdict: CaseVerdict, changes: tuple[CounterChange, ...]) -> CaseVerdict:
    """The deterministic tier decides first: a breach fails the case whatever its timing says."""
    verdict = msgspec.structs.replace(verdict, counters=changes)
    breaches = [c for c in changes if c.breach]
    if not breaches:
        return verdict
    told = ", ".join(f"{c.name} {_number(c.base)} -> {_number(c.head)}" for c in breaches)
    timing = f"; timing: {verdict.reason.message}" if verdict.stage1 else ""
    return msgspec.structs.replace(verdict, status="REGRESSED", reason=Reason("counters", told + timing))


def percent(fraction: float, sign: str = "-") -> str:
    """A fraction for people: 5.1 %, or with sign '+' always signed."""
    return f"{100 * fraction:{sign}.1f} %"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:,.0f}"
