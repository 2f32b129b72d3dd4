"""What the gate concludes, as frozen data: one CaseVerdict a case, one GateReport a run."""

from __future__ import annotations

from typing import Literal

import msgspec

from bench.errors import Exit
from bench.gate.presets import Preset

SCHEMA_VERSION = 1

Status = Literal[
    "REGRESSED", "IMPROVED", "PASS", "INCONCLUSIVE", "NOT_COMPARABLE", "MISSING", "NEW", "ERROR", "SKIPPED"
]
STATUSES: tuple[Status, ...] = (
    "REGRESSED",
    "MISSING",
    "ERROR",
    "INCONCLUSIVE",
    "NOT_COMPARABLE",
    "SKIPPED",
    "NEW",
    "IMPROVED",
    "PASS",
)
"""Worst first: the order in which they are told."""
WORDS: dict[Status, str] = {
    "REGRESSED": "regressed",
    "MISSING": "missing",
    "ERROR": "could not run",
    "INCONCLUSIVE": "inconclusive",
    "NOT_COMPARABLE": "not comparable",
    "SKIPPED": "skipped",
    "NEW": "new",
    "IMPROVED": "improved",
    "PASS": "unchanged",
}


class Reason(msgspec.Struct, frozen=True):
    """Why: a code for programs, a sentence for people."""

    code: str
    message: str


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A change of head against base, as fractions (0.05 is 5 % slower), from `epochs` epochs of one stage.

    low_frac and high_frac hold it with the preset's confidence; None where the epochs are too few to bound it.
    """

    change_frac: float
    low_frac: float | None
    high_frac: float | None
    p_regressed: float
    p_improved: float
    epochs: int


class CounterChange(msgspec.Struct, frozen=True, kw_only=True):
    """A deterministic counter that differs. `breach`: head counts more than base."""

    name: str
    base: float | None
    head: float | None
    breach: bool


class CaseVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """One case. `detail`: a side's last lines, for errors. `detectable_frac`: the change this run could have found."""

    case: str
    status: Status
    reason: Reason
    detail: str = ""
    stage1: Estimate | None = None
    stage2: Estimate | None = None
    base_step_s: float | None = None
    head_step_s: float | None = None
    counters: tuple[CounterChange, ...] = ()
    excluded_frac: float = 0.0
    detectable_frac: float | None = None

    @property
    def estimate(self) -> Estimate | None:
        """The one that decided: stage 2's where there is one."""
        return self.stage2 or self.stage1


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run. `invalid` says why its timings decide nothing; empty where they do."""

    schema_version: int
    suite: tuple[str, ...]
    base: str
    head: str
    machine: str
    preset: Preset
    seed: int
    cases: tuple[CaseVerdict, ...]
    controls: tuple[CaseVerdict, ...] = ()
    invalid: tuple[Reason, ...] = ()
    notes: tuple[str, ...] = ()
    epochs: int = 0
    excluded_frac: float = 0.0
    elapsed_s: float = 0.0
    rerun: str = ""


def exit_code(report: GateReport, *, strict: bool = False) -> Exit:
    """1 a regression, counter breach or missing case; 3 a case that could not run; 4 nothing compared; 5 invalid."""
    found = {c.status for c in report.cases}
    if found & {"REGRESSED", "MISSING"}:
        return Exit.REGRESSION
    if "ERROR" in found:
        return Exit.CASE_FAILED
    if report.invalid:
        return Exit.INVALID
    if not found & {"PASS", "IMPROVED", "INCONCLUSIVE"}:
        return Exit.NOT_COMPARABLE
    return Exit.INVALID if strict and "INCONCLUSIVE" in found else Exit.OK


def counts(report: GateReport) -> dict[Status, int]:
    """How many cases of each status, worst first, those that occur."""
    tally = {s: sum(c.status == s for c in report.cases) for s in STATUSES}
    return {s: n for s, n in tally.items() if n}


def headline(report: GateReport) -> str:
    """The verdict in words."""
    told = ", ".join(f"{n} {WORDS[s]}" for s, n in counts(report).items()) or "no cases"
    if report.invalid:
        return f"The timings are invalid: {report.invalid[0].message}. {told}."
    return f"{told[0].upper()}{told[1:]}."
