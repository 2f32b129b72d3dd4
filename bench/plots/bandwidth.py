"""Bytes per second of the embedding stage against the gather ceiling of its own row size and working set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from bench import metrics, roofs
from bench.plots import style
from bench.records import Record
from bench.reporting.format import rate
from bench.reporting.labels import labels
from profiles.machine import Machine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Embedding bandwidth against the gather ceiling"
CAPTION = (
    "Modelled bytes over measured time. Compulsory bytes (distinct rows once, indices, outputs) are the least that "
    "had to move; logical bytes count every lookup. Logical far to the right of compulsory: repeated rows came from "
    "cache. The tick is what a plain random gather of rows of this size over this working set reaches here."
)


class Point(NamedTuple):
    """Rates of one case in bytes per second."""

    record: Record
    logical: float
    compulsory: float
    roof: float | None


def points(records: Sequence[Record], machine: Machine) -> list[Point]:
    """Rates over the embedding's own time, of the cases that have a trace."""
    found = []
    for record in style.measured(records):
        logical = metrics.value(record, machine, "embedding_logical_bytes_per_s")
        compulsory = metrics.value(record, machine, "embedding_compulsory_bytes_per_s")
        if logical and compulsory:
            found.append(Point(record, logical, compulsory, roofs.gather_roof_bytes_per_s(record, machine)))
    return found


def alt(records: Sequence[Record]) -> str:
    """The picture in words."""
    count = sum(r.trace is not None for r in style.measured(records))
    return f"Dot plot of logical and compulsory embedding bandwidth with the measured gather ceiling, {count} cases."


def draw(records: Sequence[Record], machine: Machine) -> Figure | None:
    """None without traces or without lookups."""
    every = points(records, machine)
    found = every[: style.MAX_ROWS]
    if not found:
        return None
    made, (ax,) = style.figure(style.rows_height(len(found)))
    rows = range(len(found))
    muted = style.look().palette.muted
    ax.hlines(
        rows, [p.compulsory for p in found], [p.logical for p in found], color=style.look().palette.grid, linewidth=3
    )
    a = ax.scatter([p.compulsory for p in found], rows, s=26, color=style.color(0), label="compulsory bytes", zorder=3)
    b = ax.scatter(
        [p.logical for p in found],
        rows,
        s=26,
        facecolor="none",
        edgecolor=style.color(1),
        label="logical bytes",
        zorder=3,
    )
    roofs = [(p.roof, row) for row, p in enumerate(found) if p.roof]
    c = ax.scatter(
        [r for r, _ in roofs],
        [row for _, row in roofs],
        marker="|",
        s=90,
        linewidth=2,
        color=muted,
        label="gather ceiling",
    )
    names = labels([p.record for p in found])
    style.case_rows(ax, [names[p.record.key] for p in found])
    style.say_rest(ax, len(found), len(every))
    ax.set(xlim=(0, None), xlabel="embedding bytes per second of its own time")
    ax.locator_params(axis="x", nbins=4 if style.look().narrow else 8)
    style.ticks(ax.xaxis, lambda v: rate(v, "B/s") if v else "0")
    style.legend(made, [a, b, c])
    return made
