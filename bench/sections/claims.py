"""The claims table: what this run says about each statement of the article and the DLRM paper."""

from __future__ import annotations

from bench.reporting.cases import Cell, Column
from bench.run import Run
from bench.sections import Section, Table
from bench.study.claim import Claim
from bench.study.claims import claims


def section(run: Run) -> Section | None:
    """None where the run holds neither series over the number of features nor trials."""
    found = claims(run.records, run.trials)
    if not found:
        return None
    columns = (
        Column("Claim", kind="wide"),
        Column("Verdict", kind="flag"),
        Column("What was measured, and the rule", kind="wide"),
    )
    table = Table("", columns, tuple(_row(claim) for claim in found))
    return Section(
        "claims",
        "The claims",
        text=(_counts(found),),
        tables=(table,),
        notes=(
            "Exponents b are of fits y = a N^b by least squares on logarithms, with 95 % t-intervals, over the range "
            "of N named; parameters are counted from the built modules.",
            "These are statements about this machine, these sizes and this synthetic click log, not about all of them.",
        ),
    )


def _counts(found: list[Claim]) -> str:
    verdicts = [c.verdict for c in found]
    kinds = [v for v in ("supported", "depends", "not supported", "not measured") if v in verdicts]
    return f"Of {len(found)} claims: {', '.join(f'{verdicts.count(kind)} {kind}' for kind in kinds)}."


def _row(claim: Claim) -> tuple[Cell, ...]:
    return (Cell(claim.statement), Cell(claim.verdict), Cell(claim.text, claim.rule))
