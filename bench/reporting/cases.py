"""The cases of a run as rows of text, and the figures of the strip."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from statistics import median
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from bench import metrics, stats
from bench.between import Between, widened_median
from bench.records import InputStats, Record
from bench.reporting.case_trust import trust
from bench.reporting.format import MISSING, by_unit, count, ends_text, percent
from bench.reporting.labels import PHASES
from bench.run_files import page_path
from bench.stage_doubts import unlike
from profiles.machine import Machine
from workloads.spec import SHORT_REUSE

NOT_TIMED = {"B", "", "faults", "switches/s", "ratio", "FLOP/B"}
"""Units whose values do not come from the step time, and so take no interval from it."""
SHOWN = (
    ("step_s_p50", "Step time"),
    ("samples_per_s", "Samples/s"),
    ("step_latency_s_p99", "p99 step"),
    ("embedding_share_frac", "Embedding"),
    ("embedding_logical_bytes_per_s", "Logical bytes"),
    ("embedding_compulsory_bytes_per_s", "Compulsory bytes"),
    ("embedding_fraction_of_roof", "Of gather roof"),
    ("fraction_of_roof", "Of roof"),
    ("spread_frac", "Spread"),
    ("num_repeats", "Repeats"),
    ("peak_rss_bytes", "Peak RSS"),
    ("index_ks", "Index KS"),
)
ABOUT_SHARE = "share of the embedding stage in the profiled step"
KS_CHANCE = 0.001
"""A distance from the law that inputs drawn from it would exceed more rarely than this is told beside the case."""


class Fact(NamedTuple):
    """A figure of the strip: label, value, and what it is of."""

    label: str
    value: str
    note: str


class Cell(NamedTuple):
    """One cell: text, a smaller second line, and what the column sorts by (None sorts last)."""

    text: str
    note: str = ""
    sort: float | None = None


class Column(NamedTuple):
    """A column's title, what it holds, and whether it holds numbers, words, sentences or a flag.

    `basis` is measured or modelled where the column is a metric.
    """

    title: str
    about: str = ""
    kind: Literal["number", "text", "wide", "flag"] = "number"
    basis: str = ""


class CaseRow(NamedTuple):
    """One measured case. `trace` and `page` (the trace inspected) are links relative to the report, or None."""

    key: str
    label: str
    flags: tuple[str, ...]
    cells: tuple[Cell, ...]
    trace: str | None
    page: str | None = None


class Ended(NamedTuple):
    """A case that was not measured, and why."""

    label: str
    key: str
    status: str
    kind: str
    reason: str


def format_metric(name: str, values: Mapping[str, Any]) -> str:
    """One metric of a computed row in words, with the digits that the step time's interval supports."""
    value, metric = values.get(name), metrics.BY_NAME[name]
    if value is None:
        return MISSING
    if isinstance(value, (list, tuple)):
        return " to ".join(by_unit(v, metric.unit) for v in value)
    return by_unit(value, metric.unit, interval_of(name, value, values))


def interval_of(name: str, value: float, values: Mapping[str, Any]) -> tuple[float, float] | None:
    """Interval of a metric that is an amount over the step time, or the step time itself."""
    middle, ends = values.get("step_s_p50"), values.get("step_s_ci95")
    if not middle or not ends:
        return None
    if name == "step_s_p50":
        return ends[0], ends[1]
    per_second = metrics.BY_NAME[name].unit.endswith("/s") and metrics.BY_NAME[name].unit not in NOT_TIMED
    return (value * middle / ends[1], value * middle / ends[0]) if per_second else None


def facts(
    found: Sequence[Record], machine: Machine, names: Mapping[str, str], apart: Between | None = None
) -> list[Fact]:
    """The strip: best throughput by phase, largest embedding share, nearest to the gather roof, typical precision."""
    facts = []
    for phase in dict.fromkeys(r.case.phase for r in found):
        rated = [(v, r) for r in found if r.case.phase == phase and (v := metrics.value(r, machine, "samples_per_s"))]
        if rated:
            best, record = max(rated, key=lambda pair: pair[0])
            facts.append(Fact(f"Most samples/s, {PHASES.get(phase, phase)}", count(best), names[record.key]))
    shares = [(s, r) for r in found if (s := _embedding_share(r)) is not None]
    if shares:
        share, record = max(shares, key=lambda pair: pair[0])
        facts.append(Fact("Largest embedding share", percent(share), names[record.key]))
    reached = [(f, r) for r in found if (f := metrics.value(r, machine, "embedding_fraction_of_roof"))]
    if reached:
        fraction, record = max(reached, key=lambda pair: pair[0])
        facts.append(Fact("Closest to the gather roof", percent(fraction), names[record.key]))
    return facts + _precision_fact(found, apart)


def _precision_fact(found: Sequence[Record], apart: Between | None) -> list[Fact]:
    widths = [_half_width_frac(r.measurement.times_s, apart) for r in found if r.measurement]
    if not widths:
        return []
    which = ", other processes allowed for" if apart else ", of one process"
    told = f"widest ±{percent(max(widths))}, of the median{which}"
    return [Fact("Typical precision", f"±{percent(median(widths))}", told)]


def _half_width_frac(times_s: Sequence[float], apart: Between | None) -> float:
    middle = median(times_s)
    low, high = widened_median(middle, stats.median_interval(times_s), apart)
    return (high - low) / 2 / middle


def _embedding_share(record: Record) -> float | None:
    found = record.trace.stages.get("embedding") if record.trace and not unlike(record) else None
    return found.share_frac if found else None


def flag_notes(found: Sequence[Record]) -> list[str]:
    """How many cases each flag limits trust in."""
    flags = Counter(f for r in found if r.measurement for f in r.measurement.flags)
    return [f"{flag.replace('_', ' ')}: {n} of {len(found)} cases" for flag, n in sorted(flags.items())]


def about(name: str) -> str:
    """What a column holds."""
    return ABOUT_SHARE if name == "embedding_share_frac" else metrics.BY_NAME[name].description


def any_process(values: Mapping[str, Any], apart: Between | None) -> dict[str, Any]:
    """Metrics of a case with an interval of the step time that holds for any process of it, as far as that is known."""
    middle, ends = values.get("step_s_p50"), values.get("step_s_ci95")
    if not middle or not ends:
        return dict(values)
    return {**values, "step_s_ci95": widened_median(middle, (ends[0], ends[1]), apart)}


def case_row(
    record: Record,
    machine: Machine,
    names: Mapping[str, str],
    traces: Collection[str],
    apart: Between | None = None,
) -> CaseRow:
    """One measured case; its trace and the page beside it are linked where they are among `traces`."""
    assert record.measurement is not None
    values = any_process(metrics.compute(record, machine), apart)
    path = record.trace.path if record.trace else None
    page = page_path(path) if path else None
    return CaseRow(
        key=record.key,
        label=names[record.key],
        flags=(*(f.replace("_", " ") for f in record.measurement.flags), *input_flags(record), *trace_flags(record)),
        cells=(_trust_cell(record, machine), *(_cell(name, record, values) for name, _ in SHOWN)),
        trace=quote(path) if path in traces and path else None,
        page=quote(page) if page in traces and page else None,
    )


TRUST_ORDER = ("low", "medium", "high")


def columns() -> tuple[Column, ...]:
    """Of the table of cases: the name, how far it can be trusted, and the metrics shown."""
    shown = (Column(title, f"{metrics.basis(n)}: {about(n)}", basis=metrics.basis(n)) for n, title in SHOWN)
    named = Column("Case", "the axes that vary in this run")
    return (named, Column("Trust", "high, medium or low, and what stands against it"), *shown)


def _trust_cell(record: Record, machine: Machine) -> Cell:
    found = trust(record, machine)
    if found is None:
        return Cell(MISSING)
    more = f" (and {len(found.reasons) - 1} more)" if len(found.reasons) > 1 else ""
    return Cell(
        found.level, f"{found.reasons[0]}{more}" if found.reasons else "", float(TRUST_ORDER.index(found.level))
    )


def trace_flags(record: Record) -> list[str]:
    """That the stages of a case are not shown, as the steps they were seen in were unlike the timed ones."""
    return ["no stages: seen in steps unlike the timed"] if unlike(record) else []


def input_flags(record: Record) -> list[str]:
    """What a reader must know of the inputs: rows from the cache, a file, folded rows, a law not followed."""
    found = record.inputs
    if found is None:
        return []
    replay = found.replay
    told = {
        "cache": found.residency == "cache",
        "replay": replay is not None,
        "replay wrapped": replay is not None and replay.wrapped,
        f"{percent(replay.remapped_frac)} of rows folded" if replay else "": bool(replay and replay.remapped_frac),
        "off the index law": _is_off(record, found.index_ks, found.index_ks_lookups),
        "off the length law": _is_off(record, found.length_ks, found.length_ks_bags),
        _reuse_text(found): found.reuse_asked is not None
        and (found.reuse_delivered or 0.0) < SHORT_REUSE * found.reuse_asked,
    }
    return [flag for flag, holds in told.items() if holds]


def _reuse_text(found: InputStats) -> str:
    return f"{percent(found.reuse_delivered or 0.0)} of lookups repeat, {percent(found.reuse_asked or 0.0)} asked"


def _is_off(record: Record, distance: float | None, draws: int) -> bool:
    """Kolmogorov's bound on the largest distance of as many tables as the model has."""
    tables = len(record.case.model.tables) if record.case.model else 1
    return distance is not None and distance > math.sqrt(math.log(2 * tables / KS_CHANCE) / (2 * draws))


def _cell(name: str, record: Record, values: Mapping[str, Any]) -> Cell:
    if name == "embedding_share_frac":
        share = _embedding_share(record)
        return Cell(MISSING if share is None else percent(share), "", share)
    value = values[name]
    if value is None:
        return Cell(MISSING)
    interval = interval_of(name, value, values)
    with_note = interval and name in ("step_s_p50", "samples_per_s")
    note = ends_text(value, interval, metrics.BY_NAME[name].unit) if interval and with_note else ""
    return Cell(format_metric(name, values), note, value)


def ended_row(record: Record, names: Mapping[str, str]) -> Ended:
    """One case that was not measured."""
    outcome = record.outcome
    kind = " ".join(filter(None, (outcome.kind or "", f"({outcome.signal})" if outcome.signal else "")))
    return Ended(names[record.key], record.key, outcome.status, kind.replace("_", " "), outcome.reason or MISSING)
