"""What a trace says, as a plain page model -> HTML text. Only write_page() at the end touches files.

Times are microseconds with a fraction, as everywhere in an inspection; the timeline alone counts in ns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from bench import selfcontained
from bench.inspection import page_charts as charts
from bench.inspection import page_words as words
from bench.inspection.lanes import Timeline, pack
from profiles.atomic_file import write_atomically

CSS = ("report.css", "inspection.css")
JS = (
    "report.js",
    "inspection_lanes.js",
    "inspection_paint.js",
    "inspection_timeline.js",
    "inspection_input.js",
    "inspection.js",
)
MOST_KERNELS = 1000
"""Rows of the kernel table; the longest in sum."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What to try next. `evidence` maps names that end in their unit (idle_frac, busy_us, copied_bytes) to numbers."""

    kind: str
    advice: str
    evidence: Mapping[str, float | str] = {}


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of one GPU went; compute, exposed communication, exposed copies and idle add up to the span."""

    name: str
    span_us: float
    busy_us: float
    compute_us: float
    comm_us: float
    mem_us: float
    exposed_comm_us: float
    exposed_mem_us: float
    idle_causes_us: Mapping[str, float]
    """By cause: host_late, queued, unknown."""

    @property
    def idle_us(self) -> float:
        """Span without busy."""
        return self.span_us - self.busy_us


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """One component in one phase ('forward', 'backward' or ''): GPU time summed and as union, CPU time."""

    component: str
    phase: str
    gpu_us_sum: float
    gpu_us_wall: float
    cpu_us: float


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """All GPU events of one name, or all calls of one operator where there is no GPU."""

    name: str
    component: str
    n: int
    sum_us: float
    mean_us: float
    median_us: float
    sd_us: float


class RoofPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One operator: FLOPs per byte, FLOP/s reached, its time."""

    name: str
    component: str
    intensity: float
    flops_per_s: float
    sum_us: float


class Roofline(msgspec.Struct, frozen=True, kw_only=True):
    """Operators below their ceilings; `bytes_per_s` and `flops_per_s` name each ceiling. `source` says whence."""

    points: tuple[RoofPoint, ...]
    bytes_per_s: Mapping[str, float]
    flops_per_s: Mapping[str, float]
    source: str


class MemoryCurve(msgspec.Struct, frozen=True, kw_only=True):
    """Memory held on one device over time; equal numbers of times and bytes, sorted by time."""

    device: str
    time_us: tuple[float, ...]
    held_bytes: tuple[float, ...]


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """All copies in one direction; bytes are None where the trace does not tell."""

    direction: str
    n: int
    sum_us: float
    copied_bytes: int | None


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """Launches onto one stream: calls, delay from the end of the call to the start, kernels waiting."""

    stream: str
    n: int
    delay_median_us: float | None
    delay_p90_us: float | None
    queue_mean: float
    queue_max: int


class Rank(msgspec.Struct, frozen=True, kw_only=True):
    """One of several ranks; waiting and transfer are parts of its communication, None where not known."""

    rank: str
    span_us: float
    busy_us: float
    compute_us: float
    comm_us: float
    exposed_comm_us: float
    waiting_us: float | None = None
    transfer_us: float | None = None


class PageModel(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the page says. What is empty or None is left out; `reasons` says why, by section name."""

    title: str
    subtitle: str
    window: str
    verdict: Verdict
    defects: tuple[str, ...] = ()
    """The data-quality line: what is wrong with the trace; empty where nothing is."""
    devices: tuple[Device, ...] = ()
    components: tuple[Component, ...] = ()
    coverage_frac: float | None = None
    kernels: tuple[Kernel, ...] = ()
    roofline: Roofline | None = None
    memory: tuple[MemoryCurve, ...] = ()
    copies: tuple[Copy, ...] = ()
    queues: tuple[Queue, ...] = ()
    ranks: tuple[Rank, ...] = ()
    timeline: Timeline | None = None
    reasons: Mapping[str, str] = {}
    provenance: str = ""


# Text


def render_page(model: PageModel) -> str:
    """One self-contained page: nothing is fetched, and the page's own policy forbids it."""
    colors = charts.colors([*_components(model), *_parts(model)])
    return selfcontained.render(
        "inspection.html.j2",
        css=CSS,
        js=JS,
        model=model,
        words=words,
        facts=words.facts(model),
        missing=words.missing(model),
        colors=colors,
        devices=charts.device_bars(model.devices),
        device_keys=charts.DEVICE_KEYS,
        components=charts.component_bars(model.components),
        kernels=sorted(model.kernels, key=lambda k: -k.sum_us)[:MOST_KERNELS],
        roofline=charts.roof_chart(model.roofline),
        memory=charts.memory_chart(model.memory),
        payload=pack(model.timeline) if model.timeline else "",
    )


def _components(model: PageModel) -> list[str]:
    longest = sorted(model.components, key=lambda c: -(c.gpu_us_wall or c.cpu_us))
    return [c.component for c in longest]


def _parts(model: PageModel) -> list[str]:
    found = [p.component for p in model.timeline.parts] if model.timeline else []
    points = [p.component for p in model.roofline.points] if model.roofline else []
    return [*found, *points, *(k.component for k in model.kernels)]


def write_page(path: Path, model: PageModel) -> Path:
    """Write the page, whole or not at all, and return its path. OSError where it cannot be written."""
    write_atomically(path, render_page(model).encode())
    return path
