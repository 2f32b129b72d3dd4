"""Speed at each value of a setting over that at its default: a dot per pair of processes, a bar at their median."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from bench.plots import ratio_rows, style
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
    rows = [(f"{w.setting} {w.value} · {w.where}", w.ratios) for w in found[: style.MAX_ROWS]]
    made = ratio_rows.draw(rows, "speed over the default's")
    if made:
        style.say_rest(made.axes[0], len(rows), len(found))
    return made
