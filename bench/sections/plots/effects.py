"""Ratios of lookups/s between cases that differ in one axis alone: a dot per pair, a bar at their median."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from bench.plots import ratio_rows
from bench.reporting.labels import named
from bench.run import Run
from bench.sections.effects import effects

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "One axis at a time"
CAPTION = (
    "Measured. Lookups per second at one value of an axis over those at another, everything else alike: a dot per "
    "pair of cases, a bar at their median. Right of 1 is faster."
)


def alt(run: Run) -> str:
    """The picture in words."""
    parts = [
        f"{named(e.axis, e.reference)} to {named(e.axis, e.value)}: {median(e.ratios):.2f} times" for e in effects(run)
    ]
    return f"Dot plot of ratios of lookups per second between cases that differ in one axis. {'; '.join(parts)}."


def draw(run: Run) -> Figure | None:
    """None where no axis varies alone."""
    rows = [(f"{named(e.axis, e.reference)} → {named(e.axis, e.value)}", e.ratios) for e in effects(run)]
    return ratio_rows.draw(rows, "lookups/s over lookups/s")
