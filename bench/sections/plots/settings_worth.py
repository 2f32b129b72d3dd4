"""Speed at each value of a setting over that at its default: a dot per pair of processes, a bar at their median."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from bench.plots import style
from bench.run import Run
from bench.sections.settings import worths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "What each setting is worth"
CAPTION = (
    "Measured: step time at the default over step time at this setting, everything else alike: a dot per pair of "
    "processes, a bar at their median. Right of 1 this setting is faster than the default."
)


def alt(run: Run) -> str:
    """The picture in words."""
    parts = [f"{w.setting} {w.value}: {median(w.ratios):.2f} times" for w in worths(run)]
    return f"Dot plot of step time at the default over step time at each setting. {'; '.join(parts)}."


def draw(run: Run) -> Figure | None:
    """None where no setting varies alone."""
    found = worths(run)
    if not found:
        return None
    made, (ax,) = style.figure(style.rows_height(len(found)))
    tone, text = style.color(0), style.look().palette.text
    for row, worth in enumerate(found):
        ax.scatter(worth.ratios, [row] * len(worth.ratios), s=14, color=tone, alpha=0.55, linewidth=0)
        ax.scatter([median(worth.ratios)], [row], marker="|", s=110, linewidth=2.2, color=text, zorder=3)
    ax.axvline(1, color=style.look().palette.muted, linewidth=1)
    style.case_rows(ax, [f"{w.setting} {w.value} · {w.where}" for w in found])
    ratios = [r for w in found for r in w.ratios]
    low, high = min(*ratios, 0.9) / 1.05, max(*ratios, 1.1) * 1.05
    ax.set_xlim(low, high)
    ax.set(xlabel="speed over the default's")
    return made
