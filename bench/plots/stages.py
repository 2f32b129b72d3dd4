"""Where the step goes: one bar per case, split by stage, forward plain and backward hatched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench import metrics
from bench.plots import style
from bench.records import Record
from bench.reporting.format import seconds
from bench.reporting.labels import labels
from bench.stage_doubts import unlike
from profiles.machine import Machine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Where the step goes"
CAPTION = (
    "Measured. Share of the step per stage from a pass of its own; the median of the timed step stands at the right. "
    "Plain is forward, hatched backward, grey what no stage covers (framework, data hand-over, gaps). Cases whose "
    "stages were seen in steps unlike the timed ones are left out."
)


NAMES = {"backward": "autograd engine"}
"""The stage called backward is what of the backward pass belongs to no other stage."""


def shown(records: Sequence[Record]) -> list[Record]:
    """Measured records with a trace whose steps were like the timed ones."""
    return _traced(records)[: style.MAX_ROWS]


def _traced(records: Sequence[Record]) -> list[Record]:
    return [r for r in style.measured(records) if r.trace and r.trace.stages and not unlike(r)]


def alt(records: Sequence[Record]) -> str:
    """The picture in words."""
    found = shown(records)
    shares = [r.trace.stages["embedding"].share_frac for r in found if r.trace and "embedding" in r.trace.stages]
    span = f"; the embedding takes {min(shares):.0%} to {max(shares):.0%} of the step" if shares else ""
    return f"Stacked bars of the share of each stage in the step, {len(found)} cases{span}."


def draw(records: Sequence[Record], machine: Machine) -> Figure | None:
    """None without traces."""
    found = shown(records)
    if not found:
        return None
    made, (ax,) = style.figure(style.rows_height(len(found)))
    names = labels(found)
    for row, record in enumerate(found):
        _bar(ax, row, record)
    style.case_rows(ax, [names[r.key] for r in found])
    style.say_rest(ax, len(found), len(_traced(records)))
    ax.set(xlim=(0, 1), xlabel="share of the step")
    style.exact_ticks(ax.xaxis, (0, 0.25, 0.5, 0.75, 1.0), lambda v: f"{v:.0%}")
    style.legend(made, _handles(found), cols=8)
    return made


def _bar(ax: Axes, row: int, record: Record) -> None:
    assert record.trace is not None
    left = 0.0
    height = 0.34 if style.look().narrow else 0.66
    at = row + (0.05 if style.look().narrow else 0)
    edge = style.look().palette.background
    for name, stage in record.trace.stages.items():
        both = stage.forward_s + stage.backward_s
        for part_s, hatch in ((stage.forward_s, None), (stage.backward_s, "////")):
            width = stage.share_frac * part_s / both if both else 0.0
            if width > 0:
                ax.barh(
                    at,
                    width,
                    height,
                    left=left,
                    color=style.stage_color(name),
                    hatch=hatch,
                    edgecolor=edge,
                    linewidth=0.4,
                )
                left += width
    if left < 1:
        ax.barh(at, 1 - left, height, left=left, color=style.look().palette.grid)
    text = seconds(metrics.step_s(record) or 0.0)
    up = 0.41 if style.look().narrow else 0
    ax.annotate(
        text,
        (1.0, at - up),
        xycoords=("axes fraction", "data"),
        xytext=(0 if up else 5, 0),
        textcoords="offset points",
        ha="right" if up else "left",
        va="center",
        fontsize=7.6,
        color=style.look().palette.muted,
        annotation_clip=False,
    )


def _handles(found: Sequence[Record]) -> list[object]:
    from matplotlib.patches import Patch

    present = {name for r in found if r.trace for name in r.trace.stages}
    ordered = [n for n in style.STAGE_ORDER if n in present] + sorted(present - set(style.STAGE_ORDER))
    handles: list[object] = [
        Patch(color=style.stage_color(n), label=NAMES.get(n, n.replace("_", " "))) for n in ordered
    ]
    handles.append(Patch(color=style.look().palette.grid, label="not in a stage"))
    backward = any(s.backward_s > 0 for r in found if r.trace for s in r.trace.stages.values())
    edge = style.look().palette.background
    if backward:
        handles.append(Patch(facecolor=style.look().palette.muted, hatch="////", edgecolor=edge, label="in backward"))
    return handles
