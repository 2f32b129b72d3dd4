"""Parameters, FLOPs, time and memory against the number of features, a line per variant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bench.plots import style
from bench.reporting.format import capacity, count, seconds
from bench.run import Run
from bench.study.scaling import BY_NAME, Series, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "What grows with the number of features"
CAPTION = (
    "Work and parameters are modelled, times measured. Forward pass, both axes logarithmic: a straight line is a "
    "power law, its slope the exponent in the table. Dotted guides grow as N and as N². Times are per sample; peak "
    "memory is the whole process's."
)
MARKERS = "osD^v<>pPX*h"


class Panel(NamedTuple):
    """A quantity of bench/study/scaling.py and how its numbers read."""

    quantity: str
    text: Callable[[float], str]


PANELS = (
    Panel("interaction_params", count),
    Panel("params", count),
    Panel("interaction_flops", count),
    Panel("interaction_s", seconds),
    Panel("step_s", seconds),
    Panel("memory", capacity),
)


def shown(run: Run) -> list[Series]:
    """Forward series."""
    return [s for s in series(run.records) if s.phase == "forward"]


def alt(run: Run) -> str:
    """The picture in words."""
    parts = [
        f"{s.name}: interaction time grows as N to the {law.exponent:.2f}"
        for s in shown(run)
        if (law := s.law("interaction_s"))
    ]
    return (
        f"Log-log line plots of parameters, FLOPs, time and memory against the number of features. {'; '.join(parts)}."
    )


def draw(run: Run) -> Figure | None:
    """None where the number of features does not vary."""
    found = shown(run)
    if not found:
        return None
    made, axes = style.panels(len(PANELS), 2.9, sharey=False)
    for ax, panel in zip(axes, PANELS, strict=True):
        _panel(ax, panel, found)
    style.legend(made, [_handle(i, s) for i, s in enumerate(found)], cols=4)
    return made


def _line(index: int) -> dict[str, str]:
    """Colour and marker; a second round of colours is dashed."""
    dashed = index >= len(style.look().palette.series)
    return {
        "color": style.color(index),
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": "--" if dashed else "-",
    }


def _handle(index: int, one: Series) -> object:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=one.name, **_line(index))  # type: ignore[arg-type]


def _panel(ax: Axes, panel: Panel, found: Sequence[Series]) -> None:
    lines = [[(n, v) for n, v in s.points(panel.quantity) if v > 0] for s in found]
    values = [v for line in lines for _, v in line]
    sizes = sorted({n for s in found for n in s.sizes})
    ax.set(title=BY_NAME[panel.quantity].title, xlabel="features N")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    style.exact_ticks(ax.xaxis, style.spaced(sizes, 4 if style.look().narrow else 2), lambda v: f"{v:g}")
    if not values:
        return
    for index, line in enumerate(lines):
        if line:
            ax.plot(*zip(*line, strict=True), markersize=3.5, linewidth=1.3, **_line(index))  # type: ignore[arg-type]
    low, high = min(values) / 1.5, max(values) * 1.5
    ax.set_ylim(low, high)
    if panel.text is capacity:
        # The process itself is most of it: no power law to guide the eye by.
        style.exact_ticks(ax.yaxis, [2.0**e for e in range(20, 44) if low <= 2**e <= high], capacity)
    else:
        _guides(ax, sizes, low, high)
        style.log_ticks(ax.yaxis, panel.text, low, high)


def _guides(ax: Axes, sizes: Sequence[int], low: float, high: float) -> None:
    """N and N², through the middle of the panel."""
    middle = (low * high) ** 0.5
    centre = (sizes[0] * sizes[-1]) ** 0.5
    for power in (1, 2):
        ys = [middle * (n / centre) ** power for n in (sizes[0], sizes[-1])]
        ax.plot([sizes[0], sizes[-1]], ys, color=style.look().palette.muted, linestyle=":", linewidth=0.9, zorder=1)
