"""Telemetry along the run: utilisation, clocks, power and memory, where a sampler gave them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bench.plots import style
from bench.records import Channel, Record
from bench.reporting.format import capacity, percent, rate, short
from profiles.machine import Machine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Telemetry along the run"
CAPTION = (
    "Measured. What the samplers saw while the cases ran, in order of time; shading marks each case's repeats. A "
    "clock that sinks, or a utilisation well below the others, is where to doubt a number. Of many cases, some evenly "
    "chosen ones."
)
MAX_PANELS = 6
MAX_POINTS = 400
MAX_CASES = 60
PREFERRED = ("gpu_util", "host_cpu", "power", "clock", "_hz", "_celsius", "_c", "rss", "steal", "psi_cpu", "cpu_frac")
UNITS: tuple[tuple[str, Callable[[float], str]], ...] = (
    ("_frac", percent),
    ("_bytes", capacity),
    ("_hz", lambda v: rate(v, "Hz")),
    ("_w", lambda v: f"{short(v)} W"),
    ("_j", lambda v: f"{short(v)} J"),
    ("_c", lambda v: f"{short(v)} °C"),
)
Series = list[tuple[float, float]]


def series(records: Sequence[Record]) -> dict[str, list[Series]]:
    """Per channel, one series per case; times in seconds after the start of the first case that has telemetry."""
    found: dict[str, list[Series]] = {}
    watched = style.evenly([r for r in style.measured(records) if r.telemetry], MAX_CASES)
    timed = [(when, r) for r in watched if (when := _started(r))]
    start = min((when for when, _ in timed), default=None)
    for when, record in timed:
        offset = (when - start).total_seconds() if start else 0.0
        for channel in record.telemetry:
            if points := _points(channel, offset):
                found.setdefault(channel.name, []).append(points)
    return {name: found[name] for name in sorted(found, key=_rank)[:MAX_PANELS]}


def _started(record: Record) -> datetime | None:
    """When the case began; None where a file of somebody else's has no time there."""
    try:
        found = datetime.fromisoformat(record.started_at)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _points(channel: Channel, offset: float) -> Series:
    every = [(offset + t, v) for t, v in zip(channel.times_s, channel.values, strict=False) if math.isfinite(v)]
    return every[:: max(1, len(every) // MAX_POINTS)]


def _rank(name: str) -> tuple[int, str]:
    return next((i for i, word in enumerate(PREFERRED) if _has(name, word)), len(PREFERRED)), name


def alt(records: Sequence[Record]) -> str:
    """The picture in words."""
    return f"Time series along the run of {', '.join(n.replace('_', ' ') for n in series(records))}."


def draw(records: Sequence[Record], machine: Machine) -> Figure | None:
    """None without telemetry."""
    found = series(records)
    if not found:
        return None
    made, axes = style.figure(1.45 * len(found) + 0.4, rows=len(found), sharex=True)
    for index, (ax, (name, lines)) in enumerate(zip(axes, found.items(), strict=True)):
        _panel(ax, name, lines, style.color(index))
    axes[-1].set_xlabel("seconds since the first case")
    return made


def _has(name: str, word: str) -> bool:
    """Words that begin with an underscore are endings (units)."""
    return name.endswith(word) if word.startswith("_") else word in name


def _panel(ax: Axes, name: str, lines: Sequence[Series], tone: str) -> None:
    for points in lines:
        times, readings = zip(*points, strict=True)
        ax.axvspan(times[0], times[-1], color=style.look().palette.grid, alpha=0.45, linewidth=0)
        ax.plot(times, readings, color=tone, linewidth=1.2, marker="." if len(points) < 4 else "", markersize=3)
    suffix, text = next(((s, f) for s, f in UNITS if name.endswith(s)), ("", short))
    ax.set_title(name.removesuffix(suffix).replace("_", " "))
    ax.locator_params(axis="y", nbins=4)
    if suffix == "_frac":
        ax.set_ylim(0, max(1.0, *(v for line in lines for _, v in line)) * 1.04)
    if suffix == "_bytes":
        _binary_ticks(ax, max(v for line in lines for _, v in line))
    style.ticks(ax.yaxis, text)


def _binary_ticks(ax: Axes, top: float) -> None:
    """Ticks at whole powers of two, from zero."""
    from matplotlib.ticker import MultipleLocator

    ax.set_ylim(0, top * 1.1)
    ax.yaxis.set_major_locator(MultipleLocator(2.0 ** math.ceil(math.log2(max(top, 4) / 3.5))))
