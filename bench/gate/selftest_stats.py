"""Proof of the statistics by experiment: tables by brute force, false failures under five noise laws, naive rules."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import msgspec
import numpy as np

from bench.gate import naive_rules, noise_models, signed_rank
from bench.gate.decide import CaseData, decide
from bench.gate.presets import Preset, load
from bench.gate.sample_size import confirm_level
from bench.gate.simulation import Simulated, simulate

BRUTE_FORCE_N = 12
NULL_CASES = 20_000
EFFECT_CASES = 2_000
NAIVE_CASES = 4_000
NAIVE_PAIRS = 20
RUN_CASES = 40
"""Cases of a run: the family over which an error is counted."""
INJECTED_FRAC = 0.05
LEVELS = (0.10, 0.05, 0.01)
STANDARD_ERRORS = 3


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One checked sentence: what was found against what is allowed, as a ceiling or (`at_least`) a floor."""

    what: str
    law: str
    rate: float
    allowed: float
    cases: int
    ok: bool
    at_least: bool = False


class RuleResult(msgspec.Struct, frozen=True, kw_only=True):
    """A decision rule under one law: failures of unchanged cases, of a 40-case run, and of cases made 5 % slower."""

    rule: str
    law: str
    false_failure_frac: float
    any_of_40_frac: float
    found_frac: float


class StatsReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `selftest stats` finds."""

    schema_version: int
    seed: int
    null_cases: int
    findings: tuple[Finding, ...]
    rules: tuple[RuleResult, ...]

    @property
    def ok(self) -> bool:
        """Whether every sentence held."""
        return all(f.ok for f in self.findings)


def selftest(seed: int = 0, null_cases: int = NULL_CASES) -> StatsReport:
    """Run all of it; a few seconds."""
    preset = load("default")
    findings = [*table_findings(), *symmetry_findings(seed, preset)]
    rules: list[RuleResult] = []
    for law in noise_models.LAWS:
        null = simulate(law, null_cases, seed, preset, RUN_CASES)
        slower = simulate(law, EFFECT_CASES, seed + 1, preset, RUN_CASES, INJECTED_FRAC)
        findings += null_findings(law, null, preset)
        rules.append(_result("this gate", law, float(null.failed.mean()), float(slower.failed.mean())))
        rules += naive_results(law, seed)
    findings += naive_findings(rules)
    return StatsReport(schema_version=1, seed=seed, null_cases=null_cases, findings=tuple(findings), rules=tuple(rules))


def table_findings() -> list[Finding]:
    """The table of each n against all 2**n sign patterns, with and without ties."""
    found = []
    for name, ties in (("plain", False), ("with ties", True)):
        wrong = sum(not _table_is_exact(n, ties) for n in range(1, BRUTE_FORCE_N + 1))
        told = f"signed-rank tables {name}, n 1 to {BRUTE_FORCE_N}, that differ from enumeration"
        found.append(Finding(what=told, law="-", rate=wrong, allowed=0, cases=BRUTE_FORCE_N, ok=wrong == 0))
    return found


def _table_is_exact(n: int, ties: bool) -> bool:
    sizes = [float(1 + i // 2) if ties else float(i + 1) for i in range(n)]
    ranks = signed_rank.doubled_ranks(sizes)
    counted = [0] * (sum(ranks) + 1)
    for signs in itertools.product((0, 1), repeat=n):
        counted[sum(r for r, s in zip(ranks, signs, strict=True) if s)] += 1
    return tuple(counted) == signed_rank.rank_sum_counts(tuple(sorted(ranks)))


def symmetry_findings(seed: int, preset: Preset, cases: int = 300) -> list[Finding]:
    """Swapping the sides flips every sign and verdict; a revision against itself never differs."""
    chance = np.random.default_rng(seed)
    rows = chance.normal(0.02, 0.03, (cases, 28))
    swapped = sum(not _flips(row.tolist(), preset) for row in rows)
    same = decide(CaseData(case="same", stage1=(0.0,) * 8, base_step_s=1e-3), preset, 1)
    told = "swaps of base and head that do not flip the estimate, its interval and the verdict"
    return [
        Finding(what=told, law="-", rate=swapped, allowed=0, cases=cases, ok=swapped == 0),
        Finding(
            what="identical times that are called different",
            law="-",
            rate=float(same.status != "PASS"),
            allowed=0,
            cases=1,
            ok=same.status == "PASS",
        ),
    ]


def _flips(row: Sequence[float], preset: Preset) -> bool:
    forward, backward = tuple(row), tuple(-d for d in row)
    tails, mirrored = signed_rank.tails(forward), signed_rank.tails(backward)
    low, high = signed_rank.interval(forward, preset.confidence)
    back_low, back_high = signed_rank.interval(backward, preset.confidence)
    ahead, behind = (
        decide(CaseData(case="c", stage1=d[:8], stage2=d[8:], base_step_s=1e-2), preset, 1) for d in (forward, backward)
    )
    return (
        tails == (mirrored.less, mirrored.greater)
        and math.isclose(low, -back_high, abs_tol=1e-15)
        and math.isclose(high, -back_low, abs_tol=1e-15)
        and (ahead.status == "REGRESSED") == (behind.status == "IMPROVED")
        and (ahead.status == "IMPROVED") == (behind.status == "REGRESSED")
    )


def null_findings(law: str, null: Simulated, preset: Preset) -> list[Finding]:
    """Rates of small p-values and of false failures among unchanged cases, each within 3 standard errors."""
    level = confirm_level(preset, RUN_CASES)
    found = [rate_finding(f"stage 1: p <= {a:g}", law, null.p1 <= a, a) for a in LEVELS]
    found += [rate_finding(f"stage 2: p <= {a:g}", law, null.p2 <= a, a) for a in (*LEVELS, level)]
    found.append(rate_finding("false failures per case", law, null.failed, level * preset.screen_level))
    return found


def rate_finding(what: str, law: str, hits: np.ndarray, nominal: float) -> Finding:
    """A rate against its nominal value plus 3 standard errors."""
    cases = len(hits)
    rate = float(np.mean(hits)) if cases else 0.0
    allowed = nominal + STANDARD_ERRORS * math.sqrt(nominal * (1 - nominal) / max(cases, 1))
    return Finding(what=what, law=law, rate=rate, allowed=allowed, cases=cases, ok=rate <= allowed)


def naive_results(law: str, seed: int) -> list[RuleResult]:
    """The naive rules on blocks of the same law."""
    chance = np.random.default_rng([seed, 99, list(noise_models.LAWS).index(law)])
    blocks = noise_models.LAWS[law](chance, (NAIVE_CASES, 2 * naive_rules.TRIES, NAIVE_PAIRS))
    shift = math.log1p(INJECTED_FRAC)
    return [
        _result(name, law, float(rule(blocks, 0.0).mean()), float(rule(blocks, shift).mean()))
        for name, rule in naive_rules.RULES.items()
    ]


def naive_findings(rules: Sequence[RuleResult]) -> list[Finding]:
    """Tests on blocks must be seen to fail: far above their level, or this simulation shows nothing."""
    found = []
    for name in (n for n in naive_rules.RULES if "blocks" in n):
        rates = [r.false_failure_frac for r in rules if r.rule == name]
        told = f"{name}: least false failure rate over the laws"
        least = 3 * naive_rules.LEVEL
        found.append(
            Finding(
                what=told,
                law="all",
                rate=min(rates),
                allowed=least,
                cases=NAIVE_CASES,
                ok=min(rates) >= least,
                at_least=True,
            )
        )
    return found


def _result(rule: str, law: str, false: float, found: float) -> RuleResult:
    any_of_40 = 1 - (1 - false) ** RUN_CASES
    return RuleResult(rule=rule, law=law, false_failure_frac=false, any_of_40_frac=any_of_40, found_frac=found)
