"""Where the page's charts put things: shares of a width or height in percent, ticks with their words, colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bench.inspection.page_words import CAUSES, duration, label_of, share
from bench.reporting.format import capacity, percent, rate, seconds, short

if TYPE_CHECKING:
    from bench.inspection.page import Component, Device, MemoryCurve, Roofline, RoofPoint

KNOWN = (
    "embedding",
    "bottom_mlp",
    "interaction",
    "top_mlp",
    "loss",
    "optimizer",
    "comms",
    "input",
    "memory",
    "input_dist",
)
NUM_COLORS = 14
"""--c0 to --c13 of inspection.css: KNOWN first, then for components of a user's own."""
IDLE = {"idle_host_late": "late", "idle_queued": "queued", "idle_unknown": "gap"}
"""Components of an idle lane, in the colours of the devices' bars."""
OTHER = "x"
"""--cx: what belongs nowhere."""
DEVICE_KEYS = (
    ("compute", "compute"),
    ("exposed communication", "comm"),
    ("exposed copies", "mem"),
    *((words, cause.replace("_", "-")) for cause, words in CAUSES.items()),
)
"""Parts of a device's bar: words and class."""
MEMORY_POINTS = 600
LABELLED = 9
"""Points of a roofline that carry a number, the longest."""


class Segment(NamedTuple):
    """A part of a stacked bar: words, class, and its place in percent of the width."""

    label: str
    text: str
    css: str
    left: float
    width: float


class Bar(NamedTuple):
    """A stacked bar with its name and what it is in words."""

    name: str
    text: str
    segments: tuple[Segment, ...]


class Tick(NamedTuple):
    """A place on an axis in percent, and its words."""

    at: float
    text: str


class Dot(NamedTuple):
    """An operator in the roofline: place in percent, radius in pixels, number (0: none), whether the chart has room
    for the number, and words."""

    x: float
    y: float
    radius: float
    number: int
    numbered: bool
    point: RoofPoint
    tip: str


class Line(NamedTuple):
    """A straight ceiling with its name, in percent."""

    name: str
    x1: float
    y1: float
    x2: float
    y2: float


class Chart(NamedTuple):
    """A roofline: dots below lines, and ticks."""

    dots: tuple[Dot, ...]
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


class Curve(NamedTuple):
    """Points 'x,y x,y' in a box of 1000 by 1000, and its peak in words."""

    name: str
    points: str
    peak: str


class Memory(NamedTuple):
    """Memory over time."""

    curves: tuple[Curve, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def colors(components: Sequence[str]) -> dict[str, str]:
    """The colour of each component: fixed for those of a DLRM, then in the order given, grey when they run out."""
    found, free = {}, iter(range(len(KNOWN), NUM_COLORS))
    for component in dict.fromkeys(components):
        plain = component.lower().replace(" ", "_")
        if plain in KNOWN or plain in IDLE:
            found[component] = IDLE.get(plain) or str(KNOWN.index(plain))
        else:
            found[component] = OTHER if plain in ("", "other", "unknown") else str(next(free, OTHER))
    return found


# Bars


def device_bars(devices: Sequence[Device]) -> tuple[Bar, ...]:
    """Each device's span: compute, exposed communication and copies, idle by cause."""
    return tuple(_device_bar(d) for d in devices if d.span_us > 0)


def _device_bar(device: Device) -> Bar:
    idle = device.idle_causes_us
    times = (device.compute_us, device.exposed_comm_us, device.exposed_mem_us, *(idle.get(c, 0.0) for c in CAUSES))
    parts = [(label, css, us) for (label, css), us in zip(DEVICE_KEYS, times, strict=True)]
    text = f"{percent(device.busy_us / device.span_us)} busy of {duration(device.span_us)}"
    return Bar(device.name, text, _stack(parts, device.span_us, device.span_us))


def _stack(parts: Sequence[tuple[str, str, float]], full: float, whole: float) -> tuple[Segment, ...]:
    """Segments side by side: a bar of `full` fills the width, percentages are of `whole`."""
    segments, left = [], 0.0
    for label, css, us in parts:
        if us > 0:
            width = 100 * us / full
            segments.append(Segment(label, f"{duration(us)}, {share(us, whole)}", css, round(left, 3), round(width, 3)))
            left += width
    return tuple(segments)


def component_bars(components: Sequence[Component]) -> tuple[Bar, ...]:
    """One bar per component, longest first: forward, then backward; GPU time, or CPU time where there is no GPU."""
    on_gpu = any(c.gpu_us_sum for c in components)
    times = {(c.component, c.phase): c.gpu_us_sum if on_gpu else c.cpu_us for c in components}
    sums: dict[str, float] = {}
    for (component, _), us in times.items():
        sums[component] = sums.get(component, 0) + us
    whole, longest = sum(sums.values()), max(sums.values(), default=0)
    order = sorted((c for c in sums if sums[c] > 0), key=lambda c: -sums[c])
    return tuple(_component_bar(c, times, longest, whole) for c in order)


def _component_bar(component: str, times: dict[tuple[str, str], float], longest: float, whole: float) -> Bar:
    phases = sorted((phase for name, phase in times if name == component), key=lambda p: p == "backward")
    parts = [(label_of(component, p), p or "forward", times[component, p]) for p in phases]
    us = sum(part[2] for part in parts)
    return Bar(component, f"{duration(us)} · {share(us, whole)}", _stack(parts, longest, whole))


# Roofline


def roof_chart(roofline: Roofline | None) -> Chart | None:
    """Operators by intensity and FLOP/s on log axes that hold all of them and the ceilings; None without operators."""
    points = [p for p in roofline.points if p.intensity > 0 and p.flops_per_s > 0] if roofline else []
    if not roofline or not points:
        return None
    x = _decades([p.intensity for p in points] + [_ridge(roofline)])
    y = _decades([p.flops_per_s for p in points] + list(roofline.flops_per_s.values()))
    return Chart(
        dots=_dots(points, x, y),
        lines=tuple(_roofs(roofline, x, y)),
        x_ticks=_log_ticks(x, short),
        y_ticks=tuple(Tick(100 - t.at, t.text) for t in _log_ticks(y, lambda v: rate(v, "FLOP/s"))),
    )


def _ridge(roofline: Roofline) -> float:
    if not roofline.flops_per_s or not roofline.bytes_per_s:
        return 1.0
    return max(roofline.flops_per_s.values()) / max(roofline.bytes_per_s.values())


def _decades(values: Sequence[float]) -> tuple[float, float]:
    logs = [math.log10(v) for v in values if v > 0]
    low, high = math.floor(min(logs) - 0.1), math.ceil(max(logs) + 0.1)
    return float(low), float(max(high, low + 1))


def _place(value: float, ends: tuple[float, float]) -> float:
    return round(100 * (math.log10(value) - ends[0]) / (ends[1] - ends[0]), 2)


def _log_ticks(ends: tuple[float, float], text: Callable[[float], str]) -> tuple[Tick, ...]:
    step = max(1, math.ceil((ends[1] - ends[0]) / 6))
    return tuple(Tick(_place(10.0**d, ends), text(10.0**d)) for d in range(int(ends[0]), int(ends[1]) + 1, step))


def _dots(points: Sequence[RoofPoint], x: tuple[float, float], y: tuple[float, float]) -> tuple[Dot, ...]:
    most = max(p.sum_us for p in points)
    found: list[Dot] = []
    for number, p in enumerate(sorted(points, key=lambda p: -p.sum_us), start=1):
        radius = round(4 + 7 * math.sqrt(p.sum_us / most), 1) if most > 0 else 4
        tip = f"{p.name}: {rate(p.flops_per_s, 'FLOP/s')} at {short(p.intensity)} FLOP/B, {duration(p.sum_us)}"
        at = _place(p.intensity, x), round(100 - _place(p.flops_per_s, y), 2)
        shown = number if number <= LABELLED else 0
        free = all(abs(d.x - at[0]) > 4 or abs(d.y - at[1]) > 5 for d in found if d.numbered)
        found.append(Dot(*at, radius, shown, bool(shown) and free, p, tip))
    return tuple(found)


def _roofs(roofline: Roofline, x: tuple[float, float], y: tuple[float, float]) -> list[Line]:
    low, high = 10.0 ** x[0], 10.0 ** x[1]
    top, bottom = 10.0 ** y[1], 10.0 ** y[0]
    peak = max(roofline.flops_per_s.values(), default=top)
    found = []
    for name, bytes_per_s in roofline.bytes_per_s.items():
        start, end = max(low, bottom / bytes_per_s), min(high, peak / bytes_per_s)
        if start < end:
            ends = (start, start * bytes_per_s, end, end * bytes_per_s)
            found.append(_line(f"{name}, {rate(bytes_per_s, 'B/s')}", ends, x, y))
    fastest = max(roofline.bytes_per_s.values(), default=0)
    for name, flops_per_s in roofline.flops_per_s.items():
        start = max(low, flops_per_s / fastest) if fastest else low
        if start < high:
            found.append(_line(f"{name}, {rate(flops_per_s, 'FLOP/s')}", (start, flops_per_s, high, flops_per_s), x, y))
    return found


def _line(name: str, ends: tuple[float, float, float, float], x: tuple[float, float], y: tuple[float, float]) -> Line:
    x1, y1, x2, y2 = ends
    return Line(name, _place(x1, x), round(100 - _place(y1, y), 2), _place(x2, x), round(100 - _place(y2, y), 2))


# Memory


def memory_chart(curves: Sequence[MemoryCurve]) -> Memory | None:
    """Memory held over time, highest value of each small range of time kept; None without a curve."""
    curves = [c for c in curves if c.time_us]
    if not curves:
        return None
    first = min(c.time_us[0] for c in curves)
    length = max(max(c.time_us[-1] for c in curves) - first, 1e-3)
    top = _round_up(max(max(c.held_bytes) for c in curves))
    return Memory(
        curves=tuple(_curve(c, first, length, top) for c in curves),
        x_ticks=_time_ticks(length),
        y_ticks=tuple(Tick(100 - 25.0 * i, capacity(top * i / 4) if i else "0") for i in range(5)),
    )


def _time_ticks(length_us: float) -> tuple[Tick, ...]:
    """Round times from 0 on, about four."""
    power = 10.0 ** math.floor(math.log10(length_us / 4))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= length_us / 4.5)
    times = [step * i for i in range(int(length_us / step) + 1)]
    return tuple(Tick(round(100 * t / length_us, 2), seconds(t * 1e-6) if t else "0") for t in times)


def _round_up(value: float) -> float:
    """The next value that reads well in a binary unit and has readable quarters."""
    unit = 2.0 ** (10 * int(math.log2(max(value, 1)) // 10))
    steps = (1, 2, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 60, 80, 100, 120, 160, 200, 240, 320, 400, 600, 800, 1024)
    return next((s * unit for s in steps if s * unit >= value), value)


def _curve(curve: MemoryCurve, first: float, length: float, top: float) -> Curve:
    highest: dict[int, float] = {}
    for time_us, held in zip(curve.time_us, curve.held_bytes, strict=True):
        at = int((time_us - first) / length * MEMORY_POINTS)
        highest[at] = max(highest.get(at, 0.0), held)
    points, last = [], None
    for at, held in sorted(highest.items()):
        x, y = round(1000 * at / MEMORY_POINTS, 1), round(1000 - 1000 * held / top, 1)
        if last is not None:
            points.append(f"{x},{last}")
        points.append(f"{x},{y}")
        last = y
    return Curve(curve.device, " ".join(points), capacity(max(curve.held_bytes)))
