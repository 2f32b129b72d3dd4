"""How often a slow-down of each size is found: a curve per case, from recorded epochs judged again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.gate.redraw import Redrawn
from bench.gate.render.words import short_names
from bench.plots import style
from bench.reporting.labels import fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "What the gate finds"
CAPTION = (
    "The gate's own decision on epochs recorded here, with each epoch's sign drawn anew and a slow-down added. At 0 "
    "it is the share of runs that fail a case falsely. What is not found is inconclusive or passed; the table says "
    "which. A change below the floor in seconds never fails, so a short step is found from a larger share on."
)


def alt(redrawn: Redrawn) -> str:
    """The picture in words."""
    told = "; ".join(
        f"{name}: " + ", ".join(f"{o.detected_frac:.0%} at {o.effect_frac:+.0%}" for o in found)
        for name, found in redrawn.cases.items()
    )
    return f"Curves of the share of runs that find a slow-down, over its size. {told}."


def draw(redrawn: Redrawn) -> Figure | None:
    """None where nothing was judged again."""
    if not redrawn.cases:
        return None
    made, (ax,) = style.figure(3.9 if style.look().narrow else 3.5)
    many = len(redrawn.cases) > style.MAX_LINES
    names = short_names(list(redrawn.cases))
    lines = []
    for number, (name, found) in enumerate(zip(names, redrawn.cases.values(), strict=True)):
        tone = style.look().palette.muted if many else style.color(number)
        (line,) = ax.plot(
            [o.effect_frac for o in found],
            [o.detected_frac for o in found],
            marker="o",
            markersize=3.5,
            color=tone,
            alpha=0.6 if many else 1.0,
            label=fit(name, 44),
        )
        lines.append(line)
    if not many:
        made.legend(handles=lines, loc="outside upper left", ncols=1 if style.look().narrow else 2)
    ax.set(ylim=(-0.03, 1.03), xlabel="slow-down of head", ylabel="runs that fail the case")
    style.ticks(ax.xaxis, lambda v: f"{100 * v:+g} %" if abs(v) > 1e-9 else "0")
    style.ticks(ax.yaxis, lambda v: f"{100 * v:.0f} %")
    return made
