"""Ratios of lookups/s between cases that differ in one axis alone: a dot per pair, a bar at their median."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from bench.plots import style
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
    found = effects(run)
    if not found:
        return None
    made, (ax,) = style.figure(style.rows_height(len(found)))
    tone, text = style.color(0), style.look().palette.text
    for row, effect in enumerate(found):
        ax.scatter(effect.ratios, [row] * len(effect.ratios), s=14, color=tone, alpha=0.55, linewidth=0)
        ax.scatter([median(effect.ratios)], [row], marker="|", s=110, linewidth=2.2, color=text, zorder=3)
    ax.axvline(1, color=style.look().palette.muted, linewidth=1)
    style.case_rows(ax, [f"{named(e.axis, e.reference)} → {named(e.axis, e.value)}" for e in found])
    ratios = [r for e in found for r in e.ratios]
    low, high = min(*ratios, 0.9) / 1.1, max(*ratios, 1.1) * 1.1
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    style.log_ticks(ax.xaxis, lambda v: f"{v:g}×", low, high)
    ax.set(xlabel="lookups/s over lookups/s")
    return made
