"""What fewer bits buy and cost: lookups/s by row type with the error against float32 rows; dense dtypes."""

from __future__ import annotations

from collections.abc import Callable

from bench import metrics, stats
from bench.records import Record
from bench.reporting.cases import Cell, Column
from bench.reporting.format import MISSING, capacity, count, seconds, times
from bench.reporting.labels import label, slices, varying
from bench.run import Run
from bench.sections import Section, Table

ROW_TYPES = ("float32", "float16", "int8", "int4")
DTYPES = ("float32", "bfloat16", "float16")


def section(run: Run) -> Section | None:
    """None where no two cases differ in row type or dense dtype alone."""
    rows, dense = slices(run.measured, ("row_type",)), slices(run.measured, ("dtype",))
    tables = [_row_types(rows)] if rows else []
    tables += [_dtypes(dense)] if dense else []
    if not tables:
        return None
    return Section(
        "precision",
        "Precision",
        tables=tuple(tables),
        plots=("row_types",),
        notes=(
            "Error of rows: relative L2 difference of pooled rows from those of the float32 tables that the stored "
            "rows were made from, both pooled in float64. Kernel check: largest error of the case's own output against "
            "a float64 reference of the values as stored (or as rounded to the dtype), which proves the kernel and "
            "says nothing of the rounding. Tables hold random values of even size: real, trained rows differ.",
        ),
    )


def grouped(run: Run) -> list[list[Record]]:
    """Cases that differ in row type alone, in order of bits."""
    return [sorted(g, key=row_type_rank) for g in slices(run.measured, ("row_type",))]


def row_type_rank(record: Record) -> int:
    """Order by bits, most first."""
    assert record.case.model is not None
    return ROW_TYPES.index(record.case.model.tables[0].row_type)


def _row_types(groups: list[list[Record]]) -> Table:
    titles = ("Tables", "Lookups/s", "× float32 rows", "Error of rows", "Kernel check")
    columns = (Column("Rows", kind="text"), *(Column(t) for t in titles))
    shared = [n for n in varying([r.case for g in groups for r in g]) if n != "row_type"]
    rows = [
        _row_type(record, _reference(group, lambda r: row_type_rank(r) == 0), shared)
        for group in (sorted(g, key=row_type_rank) for g in groups)
        for record in group
    ]
    return Table("Embedding rows", columns, tuple(rows))


def _row_type(record: Record, reference: Record | None, shared: list[str]) -> tuple[Cell, ...]:
    assert record.case.model is not None
    lookups = (record.work.lookups if record.work else 0) / (metrics.step_s(record) or 1.0)
    error = record.rounding_error
    return (
        Cell(record.case.model.tables[0].row_type, label(record.case, shared) if shared else ""),
        Cell(capacity(metrics.table_bytes(record) or 0)),
        Cell(f"{count(lookups)}/s"),
        Cell(_faster(reference, record)),
        Cell(f"{100 * error:.2g} %" if error is not None else "0" if row_type_rank(record) == 0 else MISSING),
        Cell(f"{record.check.max_error:.1e}" if record.check else MISSING),
    )


def _reference(group: list[Record], is_float32: Callable[[Record], bool]) -> Record | None:
    """The case of the group in float32, which the others are held against; None where it was not measured."""
    return next(filter(is_float32, group), None)


def _faster(reference: Record | None, record: Record) -> str:
    if reference is None:
        return MISSING
    assert reference.measurement is not None
    assert record.measurement is not None
    if reference is record:
        return "1"
    return times(*stats.ratio_of_medians(reference.measurement.times_s, record.measurement.times_s))


def _dtypes(groups: list[list[Record]]) -> Table:
    columns = (Column("Dense dtype", kind="text"), *(Column(t) for t in ("Step", "× float32", "Kernel check")))
    shared = [n for n in varying([r.case for g in groups for r in g]) if n != "dtype"]
    rows = []
    for group in groups:
        ordered = sorted(group, key=lambda r: DTYPES.index(r.case.dtype))
        float32 = _reference(ordered, lambda r: r.case.dtype == "float32")
        rows += [
            (
                Cell(r.case.dtype, label(r.case, shared) if shared else ""),
                Cell(seconds(metrics.step_s(r) or 0.0)),
                Cell(_faster(float32, r)),
                Cell(f"{r.check.max_error:.1e}" if r.check else MISSING, r.check.what if r.check else ""),
            )
            for r in ordered
        ]
    return Table("Networks around the embedding", columns, tuple(rows))
