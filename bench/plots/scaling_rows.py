"""Lookup bandwidth against the size of the tables, with the caches marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench import metrics
from bench.plots import style
from bench.records import Record
from bench.reporting.format import capacity, rate
from bench.reporting.labels import named, slices, values, where
from profiles.machine import Machine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Scaling with table size"
CAPTION = (
    "Modelled bytes over measured time. Bytes of rows looked up per second of embedding time (of the whole step "
    "without a trace), against the bytes of all tables. Past the last-level cache, lookups come from memory and the "
    "line falls to what it can gather."
)
MAX_PANELS = 3
Point = tuple[float, float]


def grid_of(records: Sequence[Record]) -> list[Record]:
    """The largest slice in which rows vary."""
    found = style.measured(records)
    for axes in (("rows", "dim", "batch"), ("rows", "dim"), ("rows", "batch"), ("rows",)):
        if groups := slices(found, axes):
            return groups[0]
    return []


def alt(records: Sequence[Record]) -> str:
    """The picture in words."""
    grid = grid_of(records)
    sizes = sorted({size for r in grid if (size := metrics.table_bytes(r))})
    span = f"{capacity(sizes[0])} to {capacity(sizes[-1])}" if sizes else "no sizes"
    return f"Line plots of embedding bandwidth against bytes of all tables, {span}, with cache sizes marked."


def draw(records: Sequence[Record], machine: Machine) -> Figure | None:
    """None where rows do not vary or nothing was looked up."""
    grid = grid_of(records)
    points = {r.key: p for r in grid if (p := _point(r, machine))}
    if not points:
        return None
    batches = values(grid, "batch")[-MAX_PANELS:]
    made, axes = style.panels(len(batches), 2.9)
    rates = [y for _, y in points.values()]
    for ax, batch in zip(axes, batches, strict=True):
        chosen = [r for r in grid if where(r, {"batch": batch}) and r.key in points]
        _lines(ax, chosen, points)
        _scale(ax, [x for x, _ in points.values()], rates)
        _caches(ax, chosen, machine, min(x for x, _ in points.values()))
        ax.set(
            title=named("batch", batch),
            xlabel=style.with_held("all tables", records, grid),
            ylabel="rows looked up, B/s",
        )
        ax.tick_params(labelleft=True)
    style.legend(made, axes[0].get_legend_handles_labels()[0])
    return made


def _point(record: Record, machine: Machine) -> Point | None:
    speed = metrics.value(record, machine, "embedding_logical_bytes_per_s")
    speed = speed or metrics.value(record, machine, "logical_bytes_per_s")
    size = metrics.value(record, machine, "table_bytes")
    return (size, speed) if size and speed else None


def _lines(ax: Axes, chosen: Sequence[Record], points: dict[str, Point]) -> None:
    for index, dim in enumerate(style.evenly(values(chosen, "dim"), style.MAX_LINES)):
        line = sorted(points[r.key] for r in chosen if where(r, {"dim": dim}))
        ax.plot(
            *zip(*line, strict=True), marker="osD^v<>p"[index % 8], color=style.color(index), label=named("dim", dim)
        )


def _scale(ax: Axes, sizes: Sequence[float], rates: Sequence[float]) -> None:
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_ylim(min(rates) / 1.3, max(rates) * 1.7)
    exponents = range(20, 44, 4 if style.look().narrow else 5)
    style.exact_ticks(ax.xaxis, [2.0**e for e in exponents], capacity)
    style.log_ticks(ax.yaxis, lambda v: rate(v, "B/s"), min(rates), max(rates))
    ax.set_xlim(min(sizes) / 1.8, max(sizes) * 1.8)


def _caches(ax: Axes, chosen: Sequence[Record], machine: Machine, smallest: float) -> None:
    """Vertical lines at the L2 and last-level cache, where they lie in or near the range."""
    device = chosen[0].case.device if chosen else "cpu"
    sizes = {"L2": machine.cpu.l2_bytes if device == "cpu" else 0, "LLC": machine.llc_bytes(device)}
    for name, size in sizes.items():
        if size < smallest / 8 or (name == "L2" and size == sizes["LLC"]):
            continue
        low, high = ax.get_xlim()
        ax.set_xlim(min(low, size / 1.8), high)
        style.mark_size(ax, name, size)
