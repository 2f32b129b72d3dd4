"""One case, measured and traced -> what `profile` tells of it. Pure but for reading the trace.

Two views of rates, never mixed: by recorded shapes, over the time of the operators themselves, in the profiled pass;
and modelled, the case's own work over the time of its stages, scaled to the timed step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from bench import metrics, roofs
from bench.inspection.model_result import Achieved
from bench.inspection.modelling import Lens, analyse
from bench.inspection.page import PageModel
from bench.inspection.page_model import Inspected, page_model
from bench.inspection.result import Inspection
from bench.inspection.tables import Table, ms, share
from bench.inspection.verdict import words
from bench.records import Record
from bench.reporting.format import percent, rate, seconds
from bench.stage_doubts import beats_roof
from profiles.machine import Machine
from profiles.trace.components import Components, components
from profiles.trace.gpu import gpu_work
from profiles.trace.reader import read_trace
from profiles.trace.roofs import Roofs, roofs_of
from profiles.trace.rules import load_rules
from profiles.trace.stepparts import StepParts, step_parts
from profiles.trace.windows import Policy

WINDOW: Policy = "steps"
"""What is looked at: the profiled steps, without what the profiler does before and after them."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One component in one pass, per profiled step; the parts of a CPU step add up to it.

    `op_us` of the wall time is inside ops. Rates and the fraction of the roof are by recorded shapes, of the operators
    whose work these tell: `known_frac` of the operators' time. `doubt`: why the fraction cannot be right.
    """

    component: str
    phase: str
    wall_us: float
    op_us: float
    share_frac: float
    known_frac: float | None
    bytes_per_s: float | None
    flops_per_s: float | None
    fraction_of_roof: float | None
    doubt: str | None


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of the model, per timed step, forward and backward together. Its work is modelled, not observed.

    `doubt` says why a time, a rate or the fraction is None: the profiled step was unlike the timed one, or the stage
    would be faster than its roof. `share_frac` is of the step that the stage was seen in (Record.trace).
    """

    stage: str
    step_s: float | None
    share_frac: float
    bytes_compulsory: int
    compulsory_bytes_per_s: float | None
    flops: int
    flops_per_s: float | None
    fraction_of_roof: float | None
    bound: str | None
    doubt: str | None


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON document of `profile`. `sum_us` is of the parts; `overhead_ratio` profiled step over timed step.

    `run`, `trace` and `page` are where files were written.
    """

    run: str
    key: str
    trace: str
    page: str | None
    steps: int
    step_us: float
    sum_us: float
    timed_step_us: float
    timed_step_ci95_us: tuple[float, float] | None
    overhead_ratio: float
    components: tuple[Part, ...]
    modelled: tuple[Stage, ...]
    inspection: Inspection


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """A case's trace, inspected."""

    inspection: Inspection
    parts: Components
    steps: StepParts


def look(path: Path, record: Record, machine: Machine) -> Looked:
    """Read and inspect the trace of a case. TraceError where it cannot be read."""
    lens, trace = _lens(record, machine), read_trace(path)
    found = analyse(trace, WINDOW, lens).inspection
    parts = components(gpu_work(trace), lens.rules)
    return Looked(inspection=found, parts=parts, steps=step_parts(parts))


def _lens(record: Record, machine: Machine) -> Lens:
    allocator = record.settings.allocator if record.settings else ""
    return Lens(rules=load_rules(), roofs=_roofs(record, machine), allocator=allocator or record.case.allocator)


def _roofs(record: Record, machine: Machine) -> Roofs | None:
    ceilings = roofs.ceilings_of(record, machine)
    if ceilings is None:
        return None
    # A case of another dtype has float32 products too, in the precision that it asks of those.
    float32 = roofs.product_dtype(msgspec.structs.replace(record.case, dtype="float32"))
    return roofs_of(ceilings, f"{record.case.device} of this machine", float32)


def profile_of(
    looked: Looked, record: Record, machine: Machine, *, run: Path, trace: Path, page: Path | None
) -> Profile:
    """What is told of a measured case with a trace."""
    assert record.trace is not None
    steps, timed_s = looked.steps, metrics.step_s(record) or 0.0
    parts = tuple(_parts(looked))
    interval = metrics.compute(record, machine)["step_s_ci95"]
    return Profile(
        run=str(run),
        key=record.key,
        trace=str(trace),
        page=None if page is None else str(page),
        steps=steps.steps,
        step_us=_us(steps.step_ns, steps.steps),
        sum_us=round(sum(p.wall_us for p in parts), 3),
        timed_step_us=timed_s * 1e6,
        timed_step_ci95_us=(interval[0] * 1e6, interval[1] * 1e6) if isinstance(interval, tuple) else None,
        overhead_ratio=record.trace.overhead_ratio,
        components=parts,
        modelled=tuple(_modelled(record, machine)),
        inspection=looked.inspection,
    )


def _us(ns: float, steps: int) -> float:
    return round(ns / steps / 1000, 3)


def _parts(looked: Looked) -> list[Part]:
    reached = {(a.component, a.phase): a for a in looked.inspection.achieved}
    steps = looked.steps
    found = []
    for p in steps.parts:
        seen: Achieved | None = reached.get((p.component, p.phase))
        found.append(
            Part(
                component=p.component,
                phase=p.phase,
                wall_us=_us(p.wall_ns, steps.steps),
                op_us=_us(p.op_ns, steps.steps),
                share_frac=p.wall_ns / steps.step_ns if steps.step_ns else 0.0,
                known_frac=seen.known_frac if seen else None,
                bytes_per_s=seen.bytes_per_s if seen else None,
                flops_per_s=seen.flops_per_s if seen else None,
                fraction_of_roof=seen.fraction_of_roof if seen else None,
                doubt=beats_roof(seen.fraction_of_roof) if seen else None,
            )
        )
    return found


def _modelled(record: Record, machine: Machine) -> list[Stage]:
    """Stages with both work and time, the longest first."""
    found = []
    for name, told in metrics.stages(record, machine).items():
        if told["share_frac"] and told["flops"] is not None:
            found.append(_stage(name, metrics.stage_step_s(record, name), told))
    return sorted(found, key=lambda s: -s.share_frac)


def _stage(name: str, stage_s: float | None, told: dict[str, Any]) -> Stage:
    whole_s = None if told["doubt"] else stage_s
    return Stage(
        stage=name,
        step_s=stage_s,
        share_frac=told["share_frac"],
        bytes_compulsory=told["bytes_compulsory"],
        compulsory_bytes_per_s=told["bytes_compulsory"] / whole_s if whole_s else None,
        flops=told["flops"],
        flops_per_s=told["flops"] / whole_s if whole_s else None,
        fraction_of_roof=told["fraction_of_roof"],
        bound=told["bound"],
        doubt=told["doubt"],
    )


# Words

STAGES_TITLE = "stages, scaled to the timed step; work modelled; embedding with the update of its tables"
LEAST_KNOWN_FRAC = 0.1
"""Rates of less than a tenth of a component's operators would be taken for the component's."""


def lines(found: Profile) -> list[str]:
    """The steps in a few sentences."""
    timed = f"timed step {seconds(found.timed_step_us * 1e-6)}"
    shown = f"profiled step {seconds(found.step_us * 1e-6)} (mean of {found.steps}), {found.overhead_ratio:.2f} times"
    told = [f"{found.key}\n{timed}; {shown} the timed one"]
    if found.inspection.verdict is not None:
        told.append(f"verdict: {found.inspection.verdict.kind}. {found.inspection.verdict.advice}")
    return told + _doubts(found)


def _doubts(found: Profile) -> list[str]:
    """What must not be taken for right, once each: 'doubt: top MLP: ...'."""
    named: dict[str, list[str]] = {}
    for part in found.components:
        if part.doubt and (part.known_frac or 0.0) >= LEAST_KNOWN_FRAC:
            named.setdefault(part.doubt, []).append(_name_of(part))
    for stage in found.modelled:
        if stage.doubt:
            named.setdefault(stage.doubt, []).append(f"stage {words(stage.stage)}")
    return [f"doubt: {', '.join(names)}: {why}" for why, names in named.items()]


def profile_tables(found: Profile) -> list[Table]:
    """Components of the profiled step; stages of the timed step, where the case's work is known."""
    where = "GPU time" if found.inspection.devices else "wall time"
    columns = ("", f"{where}, ms", "of the step", "in ops, ms", "GB/s", "GFLOP/s", "known for", "of roof")
    rows = [_row(p) for p in found.components]
    rows.append(["all", ms(found.sum_us), share(found.sum_us, found.step_us), *[""] * 5])
    title = "components, per profiled step; rates by recorded shapes (lookups: every row read)"
    shown = [Table(title, columns, rows)]
    if found.modelled:
        heads = ("", "time, ms", "of the step", "compulsory GB/s", "GFLOP/s", "of roof", "roof is")
        stages = [_stage_row(s) for s in found.modelled]
        shown.append(Table(STAGES_TITLE, heads, stages))
    return shown


def _name_of(p: Part) -> str:
    return f"{words(p.component)} {p.phase}".strip()


def _row(p: Part) -> list[str]:
    name = _name_of(p)
    known = "" if not p.known_frac else percent(p.known_frac)
    times = [name, ms(p.wall_us), percent(p.share_frac), ms(p.op_us)]
    if (p.known_frac or 0.0) < LEAST_KNOWN_FRAC:
        return [*times, "", "", known, ""]
    roof = "" if p.fraction_of_roof is None else percent(p.fraction_of_roof) + (" ?" if p.doubt else "")
    return [*times, _giga(p.bytes_per_s), _giga(p.flops_per_s), known, roof]


def _stage_row(s: Stage) -> list[str]:
    roof = "?" if s.doubt else "" if s.fraction_of_roof is None else percent(s.fraction_of_roof)
    took = "?" if s.step_s is None else ms(s.step_s * 1e6)
    rates = [_giga(s.compulsory_bytes_per_s), _giga(s.flops_per_s)]
    return [words(s.stage), took, percent(s.share_frac), *rates, roof, s.bound or ""]


def _giga(value: float | None) -> str:
    return "" if not value else f"{value / 1e9:,.3g}"


def page_of(looked: Looked, record: Record, machine: Machine, provenance: str) -> PageModel:
    """The page of a case's trace."""
    timed_s = metrics.step_s(record)
    told = [(machine.gpu(record.case.device) or machine.cpu).name]
    if record.trace and timed_s:
        told.append(f"timed step {seconds(timed_s)}, profiled {record.trace.overhead_ratio:.2f} times as long")
    if record.work and timed_s:
        told.append(rate(record.work.total("bytes_compulsory") / timed_s, "B/s") + " compulsory (modelled)")
    found = Inspected(looked.inspection, looked.parts)
    return page_model([found], title=record.key, subtitle=" · ".join(told), provenance=provenance)
