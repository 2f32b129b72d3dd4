"""What became of one claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from bench.records import Record
from bench.study.frontier import Learned
from bench.study.scaling import Series, named

Verdict = Literal["supported", "not supported", "depends", "not measured"]


class Claim(NamedTuple):
    """One statement, how it came out, the figures in words, the rule, and the numbers behind."""

    name: str
    statement: str
    verdict: Verdict
    text: str
    rule: str
    evidence: tuple[tuple[str, float], ...] = ()


class Data(NamedTuple):
    """What claims are decided by: measured records, their series over N, and models over their seeds."""

    records: tuple[Record, ...]
    series: tuple[Series, ...]
    models: tuple[Learned, ...]

    def named(self, variant: str, phase: str = "forward") -> Series | None:
        """The series of a variant (scaling.named)."""
        return named(self.series, variant, phase)

    def of(self, *variants: str) -> list[Record]:
        """Forward records of these variants."""
        found = [r for r in self.records if r.case.model and r.case.phase == "forward"]
        return [r for r in found if r.case.model and r.case.model.variant in variants]


def verdict_of(good: Sequence[bool]) -> Verdict:
    """All, some or none of the conditions hold."""
    return "supported" if all(good) else "depends" if any(good) else "not supported"


def not_measured(name: str, statement: str, rule: str, what: str) -> Claim:
    """The claim where the run lacks what its rule needs."""
    return Claim(name, statement, "not measured", f"This run has {what}.", rule)
