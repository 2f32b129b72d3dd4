"""samples/s against batch size on log axes, with intervals: where throughput stops growing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bench import metrics, stats
from bench.plots import style
from bench.records import Record
from bench.reporting.format import count
from bench.reporting.labels import Value, named, slices, values, where
from profiles.machine import Machine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Scaling with batch size"
CAPTION = (
    "Measured. Samples per second with the 95 % interval of the median, both axes logarithmic. A rising line still "
    "pays fixed cost per step (dispatch, weights read once); a flat one has reached what its stages can move or "
    "compute."
)
MAX_PANELS = 4
SHAPES = (("batch", "rows", "dim"), ("batch", "phase", "backend"), ("batch", "dim"), ("batch", "backend"), ("batch",))


class Panel(NamedTuple):
    """One panel: its title, the axis that tells its lines apart (none for a single line), and the lines by value."""

    title: str
    axis: str | None
    lines: dict[Value, list[Record]]


def panels_of(records: Sequence[Record]) -> list[Panel]:
    """Panels: rows (lines by dim), then phases (lines by backend), or the largest plain slice over batch size."""
    found: list[Panel] = []
    for axes in SHAPES:
        if found and len(axes) < 3:
            break
        groups = slices(style.measured(records), axes)
        found += _split(groups[0], axes) if groups else []
    return found[:MAX_PANELS]


def _split(group: list[Record], axes: tuple[str, ...]) -> list[Panel]:
    if len(axes) == 3:
        _, by, line = axes
        return [
            Panel(named(by, v), line, _lines([r for r in group if where(r, {by: v})], line))
            for v in style.evenly(values(group, by), MAX_PANELS)
        ]
    return [Panel("", axes[1], _lines(group, axes[1]))] if len(axes) > 1 else [Panel("", None, {"": group})]


def _lines(group: list[Record], axis: str) -> dict[Value, list[Record]]:
    found = values(group, axis)
    ordered = sorted(found, key=str) if any(isinstance(v, str) for v in found) else found
    return {v: [r for r in group if where(r, {axis: v})] for v in style.evenly(ordered, style.MAX_LINES)}


def alt(records: Sequence[Record]) -> str:
    """The picture in words."""
    titles = "; ".join(f"{p.title} ({', '.join(map(_name(p), p.lines))})" for p in panels_of(records))
    return f"Line plots of samples per second against batch size: {titles}."


def draw(records: Sequence[Record], machine: Machine) -> Figure | None:
    """None where batch size does not vary."""
    shown = panels_of(records)
    if not shown:
        return None
    made, axes = style.panels(len(shown), 2.9, most=2)
    every = [r for panel in shown for line in panel.lines.values() for r in line]
    rates = [v for r in every if (v := metrics.value(r, machine, "samples_per_s"))]
    for ax, panel in zip(axes, shown, strict=True):
        _draw_panel(ax, panel, records)
        ax.set_ylim(min(rates) / 1.4, max(rates) * 1.5)
        style.log_ticks(ax.yaxis, count, min(rates), max(rates))
        ax.tick_params(labelleft=True)
    return made


def _draw_panel(ax: Axes, panel: Panel, records: Sequence[Record]) -> None:
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    for index, (value, line) in enumerate(panel.lines.items()):
        ordered = sorted(line, key=lambda r: r.case.batch_size)
        points = [_point(r) for r in ordered]
        rates = [p[1] for p in points]
        ax.errorbar(
            [r.case.batch_size for r in ordered],
            rates,
            yerr=[[p[1] - p[0] for p in points], [p[2] - p[1] for p in points]],
            marker="osD^v<>p"[index % 8],
            color=style.axis_color(records, panel.axis, value) if panel.axis else style.color(0),
            label=_name(panel)(value),
            capsize=2,
        )
    batches = sorted({r.case.batch_size for line in panel.lines.values() for r in line})
    style.exact_ticks(ax.xaxis, batches, lambda v: f"{v:g}")
    own = [r for line in panel.lines.values() for r in line]
    ax.set(xlabel=style.with_held("batch size (samples)", records, own), ylabel="samples/s", title=panel.title)
    if panel.axis:
        ax.legend(loc="lower right", bbox_to_anchor=(1, 0.985), ncols=4, borderaxespad=0)


def _name(panel: Panel) -> Callable[[Value], str]:
    return lambda value: named(panel.axis, value) if panel.axis else ""


def _point(record: Record) -> tuple[float, float, float]:
    """(low, median, high) samples per second."""
    assert record.measurement is not None
    low, high = stats.median_interval(record.measurement.times_s)
    samples = record.case.batch_size
    return samples / high, samples / (metrics.step_s(record) or high), samples / low
