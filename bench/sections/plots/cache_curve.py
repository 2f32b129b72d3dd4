"""Bytes looked up per second against distinct bytes touched, a line per cache mode, caches marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.plots import style
from bench.reporting.format import capacity, rate
from bench.run import Run
from bench.sections.caches import Point, curves
from profiles.machine import Machine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "The cache curve"
CAPTION = (
    "Modelled bytes over measured time. Rows looked up per second against the distinct bytes that the steps touch. "
    "Filled marks are called dram, half-filled mixed, empty cache; dashed lines are the caches that the system "
    "reports, of as many cores as the steps had threads."
)
FILL = {"dram": "full", "mixed": "left", "cache": "none", "unknown": "none"}


def alt(run: Run) -> str:
    """The picture in words."""
    parts = [
        f"{mode} from {rate(points[0].bytes_per_s, 'B/s')} at {capacity(points[0].touched_bytes)} to "
        f"{rate(points[-1].bytes_per_s, 'B/s')} at {capacity(points[-1].touched_bytes)}"
        for mode, points in curves(run).items()
    ]
    return f"Line plot of bytes looked up per second against distinct bytes touched: {'; '.join(parts)}."


def draw(run: Run) -> Figure | None:
    """None where rows and cache mode do not vary together."""
    found = curves(run)
    if not found:
        return None
    made, (ax,) = style.figure(3.4)
    for index, (mode, points) in enumerate(found.items()):
        _line(ax, mode, points, index)
    every = [p for points in found.values() for p in points]
    rates = [p.bytes_per_s for p in every]
    sizes = [float(p.touched_bytes) for p in every]
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    exponents = range(14, 40, 4 if style.look().narrow else 2)
    style.exact_ticks(ax.xaxis, [2.0**e for e in exponents], capacity)
    style.log_ticks(ax.yaxis, lambda v: rate(v, "B/s"), min(rates) / 1.3, max(rates) * 1.5)
    ax.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
    ax.set_ylim(min(rates) / 1.3, max(rates) * 1.5)
    _caches(ax, run)
    ax.set(xlabel="distinct bytes touched", ylabel="rows looked up, B/s")
    style.legend(made, ax.get_legend_handles_labels()[0])
    return made


def _line(ax: Axes, mode: str, points: list[Point], index: int) -> None:
    tone = style.color(index)
    ax.plot([p.touched_bytes for p in points], [p.bytes_per_s for p in points], color=tone, label=mode, linewidth=1.4)
    for p in points:
        ax.plot(
            [p.touched_bytes],
            [p.bytes_per_s],
            marker="osD"[index % 3],
            fillstyle=FILL[p.residency],
            color=tone,
            markersize=5.5,
        )


def _caches(ax: Axes, run: Run) -> None:
    case = run.measured[0].case
    l2_bytes = _private_bytes(run.machine, 2, case.num_threads) if case.device == "cpu" else 0
    for name, size in {"L2": l2_bytes, "LLC": run.machine.llc_bytes(case.device)}.items():
        if size:
            style.mark_size(ax, name, size)


def _private_bytes(machine: Machine, level: int, threads: int) -> int:
    """Of the caches of this level, as much as that many threads can have (0: all of them)."""
    found = next((c for c in machine.cpu.caches if c.level == level), None)
    return found.size_bytes * min(threads or found.instances, found.instances) if found else 0
