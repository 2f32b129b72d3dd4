"""Speed-up over one thread against threads, a line per case, with the ideal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.plots import style
from bench.reporting.labels import fit
from bench.run import Run
from bench.sections.threads import lines, speedup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Speed-up with threads"
CAPTION = (
    "Measured. How many times as fast as one thread, with an interval that holds the ratio in at least 95 % of runs. "
    "The grey line is ideal: twice the threads, twice as fast, up to as many threads as there are CPUs."
)
MARKERS = "osD^v<>p"


def alt(run: Run) -> str:
    """The picture in words."""
    parts = []
    for line in lines(run):
        most = max(line.records)
        parts.append(f"{line.name}: {speedup(line.records[1], line.records[most]).value:.2f} times with {most} threads")
    return f"Line plot of speed-up over one thread against threads. {'; '.join(parts)}."


def draw(run: Run) -> Figure | None:
    """None where threads do not vary alone."""
    found = lines(run)
    if not found:
        return None
    made, (ax,) = style.figure(3.6)
    every = sorted({n for line in found for n in line.records})
    ideal = range(1, every[-1] + 1)
    most = run.machine.cpu.logical_cpus
    ax.plot(ideal, [min(n, most) for n in ideal], color=style.look().palette.muted, linewidth=1)
    for index, line in enumerate(found):
        ratios = [speedup(line.records[1], r) for r in line.records.values()]
        ax.errorbar(
            list(line.records),
            [r.value for r in ratios],
            yerr=[[r.value - r.low for r in ratios], [r.high - r.value for r in ratios]],
            marker=MARKERS[index % len(MARKERS)],
            color=style.color(index),
            label=fit(line.name, 40),
            capsize=2,
        )
    ax.set_xscale("log", base=2)
    style.exact_ticks(ax.xaxis, every, lambda v: f"{v:g}")
    ax.set(xlabel="threads", ylabel="times as fast as one thread", ylim=(0, None))
    style.legend(made, ax.get_legend_handles_labels()[0], cols=3)
    return made
