"""Lookups per second by row type, with the error against float32 rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import metrics
from bench.plots import style
from bench.records import Record
from bench.reporting.format import count
from bench.reporting.labels import fit, label, varying
from bench.run import Run
from bench.sections.precision import ROW_TYPES, grouped, row_type_rank

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Lookups per second by row type"
CAPTION = (
    "Measured. Bars: lookups per second of the whole step, one group per setting, over rows as they are stored. "
    "Beside each bar the relative error of its pooled rows against those of the float32 tables."
)
MAX_GROUPS = 10


def alt(run: Run) -> str:
    """The picture in words."""
    parts = [f"{ROW_TYPES[row_type_rank(r)]} {count(_lookups(r))}/s" for g in grouped(run)[:1] for r in g]
    return f"Bar plot of lookups per second by row type, with errors. First group: {', '.join(parts)}."


def draw(run: Run) -> Figure | None:
    """None where row type does not vary alone."""
    groups = grouped(run)[:MAX_GROUPS]
    if not groups:
        return None
    records = [r for g in groups for r in g]
    shared = [n for n in varying([r.case for r in records]) if n != "row_type"]
    made, (ax,) = style.figure(1.0 + 0.24 * len(records) + 0.3 * len(groups))
    at, middles = 0.0, []
    for group in groups:
        middles.append(at + (len(group) - 1) / 2)
        for record in group:
            rank = row_type_rank(record)
            ax.barh(at, _lookups(record), 0.8, color=style.color(rank))
            ax.annotate(
                _text(record),
                (_lookups(record), at),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.6,
            )
            at += 1
        at += 0.8
    ax.set_ylim(at, -1)
    ax.set_yticks(middles, labels=[fit(label(g[0].case, shared), 34) if shared else "" for g in groups])
    ax.tick_params(axis="y", length=0, labelcolor=style.look().palette.text)
    ax.grid(visible=False, axis="y")
    ax.margins(x=0.75 if style.look().narrow else 0.3)
    ax.set(xlabel="lookups/s")
    style.ticks(ax.xaxis, count)
    style.legend(made, _handles(records))
    return made


def _lookups(record: Record) -> float:
    return (record.work.lookups if record.work else 0.0) / (metrics.step_s(record) or 1.0)


def _text(record: Record) -> str:
    error = record.rounding_error
    return f"{count(_lookups(record))}/s" + (f", error {100 * error:.2g} %" if error is not None else "")


def _handles(records: list[Record]) -> list[object]:
    from matplotlib.patches import Patch

    return [
        Patch(color=style.color(rank), label=ROW_TYPES[rank]) for rank in sorted({row_type_rank(r) for r in records})
    ]
