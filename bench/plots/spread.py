"""Every repeat of every case, relative to its median: what noise each number had to be read through."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from bench import stats
from bench.plots import style
from bench.records import Record
from bench.reporting.format import percent
from bench.reporting.labels import labels
from profiles.machine import Machine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Spread of the repeats"
CAPTION = (
    "Measured. Each dot is one repeat's mean step time over its case's median; the bar is the 95 % interval of the "
    "median. Two clumps, or a tail to one side, mean that the case did not have one speed."
)
REACH = 0.25


def alt(records: Sequence[Record]) -> str:
    """The picture in words."""
    found = style.measured(records)
    worst = max((stats.spread_frac(r.measurement.times_s) for r in found if r.measurement), default=0.0)
    cases = f"{len(found)} cases; widest interquartile range {percent(worst)}"
    return f"Dot plot of all repeats relative to their median, {cases}."


def draw(records: Sequence[Record], machine: Machine) -> Figure | None:
    """None where nothing was measured."""
    found = style.measured(records)[: style.MAX_ROWS]
    if not found:
        return None
    made, (ax,) = style.figure(style.rows_height(len(found)))
    rows, ratios = _ratios(found)
    ax.scatter(ratios, rows, s=9, color=style.color(0), alpha=0.8, linewidth=0, zorder=3)
    for row, record in enumerate(found):
        assert record.measurement is not None
        low, high = stats.median_interval(record.measurement.times_s)
        middle = median(record.measurement.times_s)
        ax.barh(row, (high - low) / middle, 0.5, left=low / middle - 1, color=style.color(1), alpha=0.45, linewidth=0)
    names = labels(found)
    style.case_rows(ax, [names[r.key] for r in found])
    style.say_rest(ax, len(found), len(style.measured(records)))
    reach = min(REACH, max(0.04, *(abs(v) for v in ratios)) * 1.08)
    ax.set(xlim=(-reach, reach), xlabel="step time relative to the case's median", ylabel="")
    ax.axvline(0, color=style.look().palette.muted, linewidth=0.8)
    style.ticks(ax.xaxis, lambda v: f"{100 * v:+.0f} %" if abs(v) > 1e-9 else "0")
    return made


def _ratios(found: Sequence[Record]) -> tuple[list[float], list[float]]:
    """(row, relative deviation) of each repeat, on three tracks; those outside the axis are drawn at its edge."""
    pairs = [
        (row + (index % 3 - 1) * 0.13, max(-REACH, min(REACH, t / median(r.measurement.times_s) - 1)))
        for row, r in enumerate(found)
        if r.measurement
        for index, t in enumerate(r.measurement.times_s)
    ]
    return [row for row, _ in pairs], [ratio for _, ratio in pairs]
