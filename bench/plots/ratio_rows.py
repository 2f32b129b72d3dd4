"""Ratios row by row about 1, on a logarithmic axis: a dot per pair of cases, a bar at the median of the row."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from bench.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGIN = 1.1


def draw(rows: Sequence[tuple[str, Sequence[float]]], xlabel: str) -> Figure | None:
    """A figure of (label, positive ratios) rows, the first on top; None without rows."""
    if not rows:
        return None
    made, (ax,) = style.figure(style.rows_height(len(rows)))
    tone, text = style.color(0), style.look().palette.text
    for row, (_, ratios) in enumerate(rows):
        ax.scatter(ratios, [row] * len(ratios), s=14, color=tone, alpha=0.55, linewidth=0)
        ax.scatter([median(ratios)], [row], marker="|", s=110, linewidth=2.2, color=text, zorder=3)
    ax.axvline(1, color=style.look().palette.muted, linewidth=1)
    style.case_rows(ax, [label for label, _ in rows])
    every = [r for _, ratios in rows for r in ratios]
    low, high = min(*every, 1 / MARGIN) / MARGIN, max(*every, MARGIN) * MARGIN
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    style.log_ticks(ax.xaxis, lambda v: f"{v:g}×", low, high)
    ax.set(xlabel=xlabel)
    return made
