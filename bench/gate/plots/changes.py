"""A case per row: the difference of every epoch, the estimate with its interval, and what the gate looks for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.gate.render.words import percent, short_names
from bench.gate.verdict import WORDS, Status
from bench.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Head against base"
CAPTION = (
    "Measured. A dot is one epoch: the change of head against base between two fresh processes. Hollow dots screened, "
    "filled ones confirmed (where a row has over 40, all are filled); what lies far outside is drawn at the edge. The "
    "bar is the estimate with its interval, which holds all scatter between epochs. Right of 0 is slower."
)
REACH_SHARE = 0.97
"""Of all dots lie inside the axis; the others are drawn at its edge."""
MANY_EPOCHS = 40
"""From here on a row's dots are small and let each other through."""
STATUS_COLORS: Mapping[Status, int] = {"REGRESSED": 1, "IMPROVED": 2}


class Changed(NamedTuple):
    """One row, all changes as fractions. `low` and `high`: None where nothing bounds the estimate."""

    name: str
    status: Status
    screened: tuple[float, ...]
    confirmed: tuple[float, ...]
    change: float
    low: float | None
    high: float | None


def alt(rows: Sequence[Changed]) -> str:
    """The picture in words."""
    told = "; ".join(f"{r.name}: {percent(r.change)}, {WORDS[r.status]}" for r in rows[: style.MAX_ROWS])
    return f"Changes of head against base by case, a dot per epoch. {told}."


def draw(rows: Sequence[Changed], marks: Mapping[str, float]) -> Figure | None:
    """None where no case has a change. `marks`: changes to be marked by name."""
    shown = rows[: style.MAX_ROWS]
    if not shown:
        return None
    made, (ax,) = style.figure(style.rows_height(len(shown)) + 0.25)
    reach = _reach(shown, marks)
    for number, row in enumerate(shown):
        _row(ax, number, row, reach)
    style.case_rows(ax, short_names([r.name for r in shown]))
    style.say_rest(ax, len(shown), len(rows))
    ax.axvline(0, color=style.look().palette.muted, linewidth=1)
    for name, change in marks.items():
        style.mark(ax, change, f"{name} {percent(change)}", (1.0, "bottom"), "center", (0, 2))
    ax.set(xlim=(-reach, reach), xlabel="change of head against base")
    style.ticks(ax.xaxis, lambda v: f"{100 * v:+g} %" if abs(v) > 1e-9 else "0")
    return made


def _row(ax: Axes, number: int, row: Changed, reach: float) -> None:
    palette = style.look().palette
    tone = style.color(STATUS_COLORS.get(row.status, 0))
    if row.status == "INCONCLUSIVE":
        tone = palette.muted
    low, high = (-reach if row.low is None else row.low), (reach if row.high is None else row.high)
    ax.plot([low, high], [number, number], color=tone, linewidth=7, alpha=0.35, solid_capstyle="butt", zorder=2)
    many = len(row.screened) + len(row.confirmed) > MANY_EPOCHS
    look: dict[str, Any] = {"s": 5, "linewidth": 0, "alpha": 0.55} if many else {"s": 13, "linewidth": 0.9}
    for changes, filled in ((row.screened, many), (row.confirmed, True)):
        inside = [max(-reach, min(reach, c)) for c in changes]
        tracks = [number + (i % 5 - 2) * 0.09 for i in range(len(inside))]
        face = tone if filled else palette.background
        ax.scatter(inside, tracks, facecolor=face, edgecolor=tone, zorder=3, clip_on=False, **look)
    ax.plot([row.change], [number], marker="|", markersize=13, markeredgewidth=2.4, color=palette.text, zorder=4)


def _reach(rows: Sequence[Changed], marks: Mapping[str, float]) -> float:
    sizes = sorted(abs(c) for r in rows for c in (*r.screened, *r.confirmed))
    most = sizes[math.ceil(REACH_SHARE * len(sizes)) - 1] if sizes else 0.0
    bounds = [abs(b) for r in rows for b in (r.low, r.high) if b is not None]
    return 1.08 * max(most, *bounds, *(1.1 * m for m in marks.values()), 0.01)
