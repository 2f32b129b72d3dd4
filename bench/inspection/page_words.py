"""The page's numbers in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from bench.reporting.format import MISSING, capacity, count, percent, rate, seconds, short

if TYPE_CHECKING:
    from bench.inspection.page import Copy, PageModel

CAUSES = {"host_late": "idle, host late", "queued": "idle, queued", "unknown": "idle, cause unknown"}
REASONS = {
    "devices": "GPU: no GPU event in this trace, so idle time, launches and copies are unknown.",
    "components": "Components: no event could be given to one.",
    "roofline": "Roofline: no shapes recorded: FLOPs and bytes are unknown. Record with record_shapes=True.",
    "memory": "Memory: no memory events. Record with profile_memory=True.",
    "steps": "Steps: no step marks. Call profiler.step() after each step.",
}


class Fact(NamedTuple):
    """A figure of the strip: label, value, and what it is of."""

    label: str
    value: str
    note: str


def duration(us: float | None) -> str:
    """4.12 ms, from microseconds; a dash where not known."""
    return MISSING if us is None else seconds(us * 1e-6)


UNITS: tuple[tuple[str, Callable[[float], str]], ...] = (
    ("_bytes_per_s", lambda v: rate(v, "B/s")),
    ("_flops_per_s", lambda v: rate(v, "FLOP/s")),
    ("_bytes", capacity),
    ("_frac", percent),
    ("_us", duration),
    ("_count", count),
)
"""How an evidence's name ends, and how its number is written."""


def share(part: float | None, whole: float) -> str:
    """71 % of the whole, a dash where that is not known."""
    if part is None or whole <= 0:
        return MISSING
    return "<0.1 %" if 0 < part < 0.0005 * whole else percent(part / whole)


def name_of(component: str) -> str:
    """bottom MLP: a component as people write it."""
    return component.replace("_", " ").replace("mlp", "MLP") or "other"


def kernel_name(name: str) -> str:
    """A kernel's name without what nearly all of them begin with."""
    for prefix in ("void ", "at::native::", "(anonymous namespace)::"):
        name = name.removeprefix(prefix)
    return name


def label_of(component: str, phase: str) -> str:
    """embedding, or embedding backward."""
    return f"{name_of(component)} backward" if phase == "backward" else name_of(component)


def evidence(name: str, value: float | str) -> tuple[str, str]:
    """('idle', '62 %') of idle_frac and 0.62: label and value in the unit that the name ends in."""
    for suffix, text in UNITS:
        if name.endswith(suffix) and not isinstance(value, str):
            return name_of(name.removesuffix(suffix)), text(value)
    return name.replace("_", " "), value if isinstance(value, str) else short(value, 4)


def moved(copied_bytes: int | None) -> str:
    """1.5 GiB, or a dash where the trace does not tell."""
    return MISSING if copied_bytes is None else capacity(copied_bytes)


def bandwidth(copy: Copy) -> str:
    """Bytes of all copies over their time."""
    if copy.copied_bytes is None or copy.sum_us <= 0:
        return MISSING
    return rate(copy.copied_bytes / copy.sum_us * 1e6, "B/s")


def facts(model: PageModel) -> list[Fact]:
    """The strip of key figures."""
    span, busy = sum(d.span_us for d in model.devices), sum(d.busy_us for d in model.devices)
    many = f"mean of {len(model.devices)} devices" if len(model.devices) > 1 else "one device"
    found = []
    if model.devices and span:
        of = f"{duration(busy / len(model.devices))} of {duration(span / len(model.devices))}"
        found.append(Fact("GPU busy", percent(busy / span), f"{of}, {many}"))
        found += _idle_fact(model, span)
    elif model.timeline:
        found.append(
            Fact("Traced time", duration(model.timeline.span_ns / 1e3), _plural(len(model.timeline.lanes), "lane"))
        )
    return [*found, *_component_fact(model), *_step_fact(model), *_kernel_fact(model)]


def _plural(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _idle_fact(model: PageModel, span: float) -> list[Fact]:
    causes: dict[str, float] = {}
    for device in model.devices:
        for cause, us in device.idle_causes_us.items():
            causes[cause] = causes.get(cause, 0) + us
    if not causes or sum(causes.values()) <= 0:
        return []
    cause = max(causes, key=causes.__getitem__)
    note = f"of it {share(causes[cause], sum(causes.values()))} {name_of(cause).removeprefix('idle, ')}"
    return [Fact("GPU idle", percent(sum(causes.values()) / span), note)]


def _component_fact(model: PageModel) -> list[Fact]:
    on_gpu = any(c.gpu_us_sum for c in model.components)
    by_name: dict[str, float] = {}
    for c in model.components:
        by_name[c.component] = by_name.get(c.component, 0) + (c.gpu_us_sum if on_gpu else c.cpu_us)
    if not by_name or sum(by_name.values()) <= 0:
        return []
    largest = max(by_name, key=by_name.__getitem__)
    where = "GPU time" if on_gpu else "CPU time"
    return [Fact(f"Largest component: {name_of(largest)}", share(by_name[largest], sum(by_name.values())), where)]


def _step_fact(model: PageModel) -> list[Fact]:
    steps = model.timeline.steps if model.timeline else ()
    if not steps:
        return []
    lengths = sorted(step.dur_ns for step in steps)
    note = "one step" if len(steps) == 1 else f"median of {len(steps)} steps"
    return [Fact("Step", duration((lengths[(len(lengths) - 1) // 2] + lengths[len(lengths) // 2]) / 2e3), note)]


def _kernel_fact(model: PageModel) -> list[Fact]:
    if not model.kernels:
        return []
    what = "GPU events" if model.devices else "Operator calls"
    return [Fact(what, count(sum(k.n for k in model.kernels)), _plural(len(model.kernels), "name"))]


def missing(model: PageModel) -> list[str]:
    """Why a section that a reader would look for is not there."""
    empty = {
        "devices": not model.devices,
        "components": not model.components,
        "roofline": model.roofline is None or not model.roofline.points,
        "memory": not model.memory,
        "steps": not (model.timeline and model.timeline.steps),
    }
    known = [model.reasons.get(name, REASONS[name]) for name, absent in empty.items() if absent]
    return known + [text for name, text in model.reasons.items() if name not in empty]
