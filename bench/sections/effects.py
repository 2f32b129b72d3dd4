"""What each axis of an embedding sweep does to lookups/s: ratios between cases that differ in that axis alone."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from bench import metrics
from bench.records import Record
from bench.reporting.cases import Cell, Column
from bench.reporting.labels import TITLES, Value, named, slices, values, varying, where
from bench.run import Run
from bench.sections import Section, Table

MIN_AXES = 2


class Effect(NamedTuple):
    """Lookups/s at one value of an axis over that at its first value, of every pair that differs in it alone."""

    axis: str
    value: Value
    reference: Value
    ratios: tuple[float, ...]


def section(run: Run) -> Section | None:
    """None unless embedding-only models vary in at least two axes."""
    found = effects(run)
    if len({e.axis for e in found}) < MIN_AXES:
        return None
    columns = (
        Column("Axis", kind="text"),
        Column("From", kind="text"),
        Column("To", kind="text"),
        *(Column(t) for t in ("Median", "Least", "Most", "Pairs")),
    )
    return Section(
        "effects",
        "What each axis does to lookups/s",
        tables=(Table("", columns, tuple(_row(e) for e in found)),),
        plots=("effects",),
        notes=(
            "Each ratio is of two cases that differ in this axis alone, so the spread from least to most is what the "
            "other axes make of it: where it crosses 1, the axis helps in some settings and hurts in others.",
        ),
    )


def effects(run: Run) -> list[Effect]:
    """Every value of every axis that varies, against the axis's first value."""
    records = [r for r in run.measured if r.case.model and r.case.model.variant == "embedding" and lookups_per_s(r)]
    return [e for axis in varying([r.case for r in records]) for e in _of_axis(records, axis)]


def _of_axis(records: Sequence[Record], axis: str) -> list[Effect]:
    groups = slices(records, (axis,))
    found = values(records, axis)
    made = []
    for value in found[1:]:
        pairs = [(_at(g, axis, found[0]), _at(g, axis, value)) for g in groups]
        ratios = tuple(lookups_per_s(b) / lookups_per_s(a) for a, b in pairs if a and b)
        if ratios:
            made.append(Effect(axis, value, found[0], ratios))
    return made


def _at(group: Sequence[Record], axis: str, value: Value) -> Record | None:
    return next((r for r in group if where(r, {axis: value})), None)


def lookups_per_s(record: Record) -> float:
    """Rows looked up per second of the whole step."""
    return (record.work.lookups if record.work else 0.0) / (metrics.step_s(record) or 1.0)


def _row(effect: Effect) -> tuple[Cell, ...]:
    ends = (median(effect.ratios), min(effect.ratios), max(effect.ratios))
    return (
        Cell(TITLES.get(effect.axis, effect.axis)),
        Cell(named(effect.axis, effect.reference)),
        Cell(named(effect.axis, effect.value)),
        *(Cell(f"{v:.2f}×", "", v) for v in ends),
        Cell(str(len(effect.ratios))),
    )
