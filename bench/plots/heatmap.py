"""Throughput as heat maps: one axis against batch size, a panel per value of a third axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench import metrics
from bench.plots import style
from bench.records import Record
from bench.reporting.format import count
from bench.reporting.labels import TITLES, Value, axes_of, named, slices, value_text, values, where
from profiles.machine import Machine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PANELS = 6
MAX_CELLS = 12


def grid_of(records: Sequence[Record], axis: str, panel: str) -> list[Record]:
    """The largest slice in which `axis` and batch vary, and `panel` too where there is such a slice.

    Of an axis with many values, some evenly chosen ones.
    """
    found = style.measured(records)
    groups = slices(found, (axis, "batch", panel)) or slices(found, (axis, "batch"))
    grid = groups[0] if groups else []
    for name, most in ((axis, MAX_CELLS), ("batch", MAX_CELLS), (panel, MAX_PANELS)):
        kept = style.evenly(values(grid, name), most)
        grid = [r for r in grid if axes_of(r.case).get(name) in kept] if kept else grid
    return grid


def draw(records: Sequence[Record], machine: Machine, axis: str, panel: str) -> Figure | None:
    """samples/s over `axis` (down) and batch size (across), a panel per value of `panel`."""
    from matplotlib.colors import LogNorm

    grid = grid_of(records, axis, panel)
    rates = [v for r in grid if (v := metrics.value(r, machine, "samples_per_s"))]
    if not rates:
        return None
    shown = values(grid, panel)[:MAX_PANELS]
    height = 0.42 * len(values(grid, axis)) + 1.0
    made, axes = style.panels(len(shown), max(1.7, height), sharey=False)
    norm = LogNorm(min(rates), max(rates) * 1.0001)
    for ax, value in zip(axes, shown, strict=True):
        chosen = [r for r in grid if where(r, {panel: value})]
        _panel(ax, chosen, machine, axis, norm)
        ax.set(title=named(panel, value), xlabel=style.with_held("batch size (samples)", records, grid))
    return made


def _panel(ax: Axes, grid: Sequence[Record], machine: Machine, axis: str, norm: object) -> None:
    import seaborn as sns

    down, across = values(grid, axis), values(grid, "batch")
    rates = [[_rate(grid, machine, {axis: d, "batch": a}) for a in across] for d in down]
    sns.heatmap(
        rates,
        ax=ax,
        annot=[["" if math.isnan(v) else count(v) for v in row] for row in rates],
        fmt="",
        cmap=style.look().palette.heat,
        norm=norm,
        cbar=False,
        linewidths=1.5,
        linecolor=style.look().palette.background,
        xticklabels=[value_text("batch", v) for v in across],
        yticklabels=[value_text(axis, v) for v in down],
    )
    ax.set(ylabel=TITLES[axis])
    ax.tick_params(length=0, rotation=0)


def _rate(grid: Sequence[Record], machine: Machine, wanted: dict[str, Value]) -> float:
    found = next((r for r in grid if where(r, wanted)), None)
    return (metrics.value(found, machine, "samples_per_s") if found else None) or math.nan


def alt(records: Sequence[Record], axis: str, panel: str) -> str:
    """What the heat map holds, in words."""
    grid = grid_of(records, axis, panel)
    downs = ", ".join(value_text(axis, v) for v in values(grid, axis))
    batches = ", ".join(value_text("batch", v) for v in values(grid, "batch"))
    panels = ", ".join(value_text(panel, v) for v in values(grid, panel)[:MAX_PANELS])
    return (
        f"Heat map of samples per second: {TITLES[axis]} {downs} by batch size {batches}, for {TITLES[panel]} {panels}."
    )
