"""The cache curve: bytes looked up per second against the distinct bytes that the steps touch, by cache mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench import metrics
from bench.records import Record
from bench.reporting.cases import Cell, Column
from bench.reporting.format import MISSING, capacity, rate, words
from bench.reporting.labels import slices, values
from bench.run import Run
from bench.sections import Section, Table
from profiles.machine import Machine

MODES = ("hot", "rotated", "cold")
LEAST_POINTS = 4


class Point(NamedTuple):
    """One case: distinct bytes touched over all its inputs, bytes looked up per second, and the verdict on it."""

    touched_bytes: int
    bytes_per_s: float
    residency: str
    record: Record


def curves(run: Run) -> dict[str, list[Point]]:
    """Points by cache mode in order of bytes, of the largest group that varies in rows and cache mode alone."""
    groups = slices(run.measured, ("rows", "cache"))
    if not groups:
        return {}
    by_mode = {mode: _points(groups[0], mode, run.machine) for mode in MODES if mode in values(groups[0], "cache")}
    return {mode: points for mode, points in by_mode.items() if len(points) >= LEAST_POINTS}


def _points(group: Sequence[Record], mode: str, machine: Machine) -> list[Point]:
    found = []
    for record in group:
        speed = metrics.value(record, machine, "logical_bytes_per_s")
        if record.case.cache_mode == mode and record.inputs and speed:
            found.append(Point(record.inputs.rotation_unique_bytes, speed, record.inputs.residency, record))
    return sorted(found, key=lambda p: p.touched_bytes)


def section(run: Run) -> Section | None:
    """None where rows and cache mode do not vary together."""
    found = curves(run)
    if not found:
        return None
    llc_bytes = run.machine.llc_bytes(next(iter(found.values()))[0].record.case.device)
    columns = (Column("Table", kind="text"), *(Column(mode, basis="modelled") for mode in found))
    return Section(
        "caches",
        "The cache curve",
        text=tuple(_sentences(found, llc_bytes)),
        tables=(Table("Looked up, and below it the distinct bytes touched", columns, tuple(_rows(found))),),
        plots=("cache_curve",),
        notes=(
            "Bytes looked up are counted (rows times lookups), the time is measured. hot: one batch over and over. "
            "rotated: many batches, so that a row is met again only after the others. cold: a buffer of two last-level "
            "caches is streamed before every step; rows looked up twice in one step are cached even then.",
            "Verdict: dram where the distinct bytes exceed twice the last-level cache, cache below half of it, mixed "
            "between; a cold step is dram or mixed.",
        ),
    )


def _rows(found: dict[str, list[Point]]) -> list[tuple[Cell, ...]]:
    """One row per size of the tables."""
    by_size = {mode: {_table_bytes(p): p for p in points} for mode, points in found.items()}
    sizes = sorted({size for points in by_size.values() for size in points})
    return [(Cell(capacity(size)), *(_cell(points.get(size)) for points in by_size.values())) for size in sizes]


def _table_bytes(point: Point) -> int:
    return metrics.table_bytes(point.record) or 0


def _cell(point: Point | None) -> Cell:
    if point is None:
        return Cell(MISSING)
    touched = f"{capacity(point.touched_bytes)}, {point.residency}"
    return Cell(rate(point.bytes_per_s, "B/s"), touched, point.bytes_per_s)


def _sentences(found: dict[str, list[Point]], llc_bytes: int) -> list[str]:
    texts = []
    for mode, points in found.items():
        inside = [p for p in points if p.touched_bytes < llc_bytes / 2]
        beyond = [p for p in points if p.touched_bytes > 2 * llc_bytes]
        if inside and beyond:
            fast, slow = max(p.bytes_per_s for p in inside), min(p.bytes_per_s for p in beyond)
            texts.append(f"{mode}: {rate(fast, 'B/s')} within the last-level cache, {rate(slow, 'B/s')} beyond it.")
    wrong = [p for points in found.values() for p in points if p.residency == "dram" and p.touched_bytes <= llc_bytes]
    if wrong:
        sizes = words([capacity(p.touched_bytes) for p in wrong])
        texts.append(f"Called dram although the distinct bytes fit the last-level cache: {sizes}.")
    return texts
