"""Cost against the number of features: fitted exponents of every variant, and the two forms of the same sum."""

from __future__ import annotations

from bench.reporting.cases import Cell, Column
from bench.reporting.format import MISSING, count, seconds, short
from bench.run import Run
from bench.sections import Section, Table
from bench.study.scaling import BY_NAME, PowerLaw, Series, both_forms, series

FITTED = {
    "interaction_params": "Interaction params",
    "second_order_params": "with tables",
    "params": "All params",
    "interaction_flops": "Interaction FLOPs",
    "flops": "All FLOPs",
    "bytes": "Bytes",
    "interaction_s": "Interaction time",
    "step_s": "Step time",
    "memory": "Peak memory",
}

UNTOLD = 2.0
"""An interval wider than from N to N^3 says nothing of how a quantity grows."""


def section(run: Run) -> Section | None:
    """None where no group of cases varies in the number of features alone."""
    found = series(run.records)
    if not found:
        return None
    columns = tuple(Column(title, BY_NAME[name].title) for name, title in FITTED.items())
    exponents = Table(
        "Fitted exponents b of a N^b",
        (Column("Variant", kind="text"), Column("N", kind="text"), *columns),
        tuple(_row(s) for s in found),
    )
    forms = _forms(found)
    return Section(
        "structure",
        "Cost against the number of features",
        tables=(exponents, forms) if forms else (exponents,),
        plots=("features", "fm_forms"),
        notes=(
            "Interaction parameters are what the built interaction module holds (poly2: the blocks or hashed weights "
            "of pairs; not the bias w_0); the second parameter column adds the embedding tables, the third all else.",
            "FLOPs and algorithmic bytes are counted (docs/method/work.md), times measured: the interaction's time is "
            "its share of a profiled pass times the timed step, without the embedding lookups. Peak memory is of the "
            "whole process, interpreter, libraries and the check against the reference included, so its exponents "
            "read low.",
            "Fits use N of 32 and more where there are three such sizes: below, N(N-1)/2 is not yet N²/2 and fixed "
            "cost per operator hides the arithmetic. A dash: the quantity is zero, has fewer than three sizes, or "
            "its interval is wider than 2.",
        ),
    )


def _row(one: Series) -> tuple[Cell, ...]:
    laws = [one.law(name) for name in FITTED]
    ranges = dict.fromkeys(f"{law.least:g}–{law.most:g}" for law in laws if law)
    batch = one.records[0].case.batch_size
    return (Cell(one.name, f"batch {batch}"), Cell(", ".join(ranges) or MISSING), *(_exponent(law) for law in laws))


def _exponent(law: PowerLaw | None) -> Cell:
    if law is None:
        return Cell(MISSING)
    if law.high - law.low > UNTOLD:
        return Cell(MISSING, "interval over 2")
    note = f"{law.low:.2f} to {law.high:.2f}" if law.high - law.low >= 0.005 else "exact"
    return Cell(f"{law.exponent:.2f}", note, law.exponent)


def _forms(found: list[Series]) -> Table | None:
    """Both forms of fm, forward, by N."""
    forms = both_forms(found)
    if forms is None:
        return None
    times = [dict(s.points("interaction_s")) for s in forms]
    flops = [dict(s.points("interaction_flops")) for s in forms]
    rows = [
        (
            Cell(str(n)),
            *(Cell(count(f[n])) for f in flops),
            *(Cell(seconds(t[n])) for t in times),
            Cell(f"{short(times[0][n] / times[1][n])}×"),
        )
        for n in times[0]
        if times[1].get(n) and all(n in f for f in flops)
    ]
    titles = (
        "FLOPs, pairwise",
        "FLOPs, square of sum",
        "Time, pairwise",
        "Time, square of sum",
        "Pairwise over square",
    )
    columns = (Column("N", kind="text"), *(Column(t) for t in titles))
    where = f" ({forms[0].apart})" if forms[0].apart else ""
    title = f"One sum in two forms: the interaction of a factorization machine, per sample{where}"
    return Table(title, columns, tuple(rows))
