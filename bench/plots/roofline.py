"""Roofline: stages and whole steps under the ceilings measured on this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import metrics, roofs
from bench.plots import style
from bench.records import Record
from bench.reporting.format import rate, short
from profiles.machine import Ceilings, Machine
from profiles.roofline import gather_roof

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

TITLE = "Roofline"
CAPTION = (
    "Modelled work over measured time. FLOP/s against FLOPs per compulsory byte. Slanted lines are measured memory "
    "ceilings (stream, and random gather at the smallest and largest row size used), flat ones matrix products. Far "
    "below every line means overhead."
)
STEP = "whole step"


class Point(NamedTuple):
    """One stage of one case, or a whole step: FLOPs per byte and FLOP/s."""

    stage: str
    intensity: float
    flops_per_s: float


def points(records: Sequence[Record], machine: Machine) -> list[Point]:
    """Stages that have FLOPs, bytes and a time from the trace, and every whole step."""
    found = []
    for record in style.measured(records):
        work = record.work
        for name, stage in (work.stages if work else {}).items():
            took = metrics.stage_step_s(record, name)
            if took and stage.flops and stage.bytes_compulsory:
                found.append(Point(name, stage.flops / stage.bytes_compulsory, stage.flops / took))
        intensity = metrics.value(record, machine, "arithmetic_intensity")
        speed = metrics.value(record, machine, "flops_per_s")
        if intensity and speed:
            found.append(Point(STEP, intensity, speed))
    return found


def alt(records: Sequence[Record]) -> str:
    """The picture in words."""
    count = len(style.measured(records))
    return f"Log-log roofline of {count} cases under measured gather, stream and matrix-product ceilings."


def draw(records: Sequence[Record], machine: Machine) -> Figure | None:
    """None without ceilings or work. One device: the one most cases ran on."""
    measured = style.measured(records)
    devices = Counter(r.case.device for r in measured)
    every = [r for r in measured if devices and r.case.device == devices.most_common(1)[0][0]]
    chosen = style.evenly(every, style.MAX_MARKED)
    found, ceilings = points(chosen, machine), roofs.ceilings_of(chosen[0], machine) if chosen else None
    if not found or ceilings is None:
        return None
    made, (ax,) = style.figure(5.6 if style.look().narrow else 4.9)
    ax.set_xscale("log")
    ax.set_yscale("log")
    handles = [*_points(ax, found), *_roofs(ax, found, chosen, ceilings)]
    style.say_rest(ax, len(chosen), len(every), "evenly chosen:")
    ax.set(xlabel="FLOPs per compulsory byte", ylabel="FLOP/s")
    style.ticks(ax.xaxis, short)
    style.ticks(ax.yaxis, lambda v: rate(v, "FLOP/s"))
    style.legend(made, handles, cols=4)
    return made


def _points(ax: Axes, found: Sequence[Point]) -> list[object]:
    handles: list[object] = []
    for name in dict.fromkeys((*style.STAGE_ORDER, *(p.stage for p in found))):
        chosen = [p for p in found if p.stage == name]
        if not chosen:
            continue
        step = name == STEP
        handles.append(
            ax.scatter(
                [p.intensity for p in chosen],
                [p.flops_per_s for p in chosen],
                s=24,
                marker="D" if step else "o",
                facecolor="none" if step else style.stage_color(name),
                edgecolor=style.look().palette.text if step else style.look().palette.background,
                linewidth=0.9 if step else 0.4,
                label=name.replace("_", " "),
                zorder=3,
            )
        )
    return handles


def _roofs(ax: Axes, found: Sequence[Point], chosen: Sequence[Record], ceilings: Ceilings) -> list[object]:
    low, high = min(p.intensity for p in found) / 2, max(p.intensity for p in found) * 3
    peaks = product_peaks(chosen, ceilings)
    top = max(peaks.values(), default=max(p.flops_per_s for p in found) * 2)
    handles: list[object] = []
    for name, speed, dashes in _memory_roofs(chosen, ceilings):
        ends = [low, min(top / speed, high)]
        handles += _line(ax, ends, [x * speed for x in ends], f"{name} {rate(speed, 'B/s')}", dashes)
    for dtype, peak in peaks.items():
        handles += _line(ax, [low, high], [peak, peak], f"GEMM {dtype} {rate(peak, 'FLOP/s')}", "-.")
    ax.set_xlim(low, high)
    ax.set_ylim(min(p.flops_per_s for p in found) / 2, top * 2)
    return handles


def product_peaks(chosen: Sequence[Record], ceilings: Ceilings) -> dict[str, float]:
    """FLOP/s of the measured matrix products that the cases are held to, by the ceiling's name."""
    names = filter(None, dict.fromkeys(roofs.product_dtype(r.case) for r in chosen))
    return {name: ceilings.gemm[name].flops_per_s or 0.0 for name in names if name in ceilings.gemm}


def _line(ax: Axes, x: list[float], y: list[float], name: str, dashes: Any) -> list[Line2D]:
    return ax.plot(x, y, color=style.look().palette.muted, linestyle=dashes, linewidth=1.4, label=name)


def _memory_roofs(chosen: Sequence[Record], ceilings: Ceilings) -> list[tuple[str, float, object]]:
    found: list[tuple[str, float, object]] = []
    if ceilings.stream_read.bytes_per_s:
        found.append(("stream read", ceilings.stream_read.bytes_per_s, "-"))
    works = [r.work for r in chosen if r.work and r.work.row_bytes and "embedding" in r.work.stages]
    if not works or not ceilings.gather:
        return found
    largest = max(w.stages["embedding"].working_set_bytes for w in works)
    rows = sorted({round(w.row_bytes) for w in works})
    for row, dashes in ((rows[-1], (0, (5, 2))), (rows[0], (0, (1.5, 1.5))))[: len(rows)]:
        found.append((f"gather {row} B rows", gather_roof(ceilings, row, largest), dashes))
    return found
