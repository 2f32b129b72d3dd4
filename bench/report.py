"""Records -> a plain model of the report -> HTML and Markdown text. Only write_report() at the end touches files."""

from __future__ import annotations

import base64
import re
import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from bench import metrics, selfcontained, stats
from bench.records import Manifest, Record
from bench.report_format import MISSING, by_unit, count, ends_text, percent, words
from bench.report_labels import PHASES, case_name, labels
from bench.report_tables import CeilingRow, ceiling_rows, ceiling_summary, machine_rows
from bench.report_verdict import Sentence, verdict
from profiles.machine import Machine

if TYPE_CHECKING:
    from bench.plots.style import Theme, Width

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
)
ABOUT_SHARE = "share of the embedding stage in the profiled step"
CONVENTIONS = (
    (
        "Measured",
        "Step times (median over repeats; a repeat is a group of steps), latency percentiles (single steps), ceilings, "
        "stage shares (a profiled pass of its own; a stage's time is its share times the timed step), memory, faults.",
    ),
    (
        "Modelled",
        "FLOPs and bytes, counted from the inputs of the case: logical bytes are every row looked up; compulsory bytes "
        "are distinct rows in whole 64-byte lines, once, with indices, offsets and outputs; traffic that a cache saved "
        "or wasted is in neither. A multiply-add is two FLOPs. No hardware counter is read.",
    ),
    (
        "Roof",
        "The least time of a step: for each stage the larger of compulsory bytes over the measured ceiling (random "
        "gather of its row size and working set for the embedding, stream for the rest) and FLOPs over the measured "
        "matrix product, added up. Of roof = that time over the measured one. Where a batch looks rows up repeatedly, "
        "lookups answered by a cache take time but add no compulsory bytes, so the fraction reads low.",
    ),
    (
        "Intervals",
        "95 % for the median by order statistics, widened for autocorrelation between repeats; only digits that they "
        "support are shown. Ratios carry an interval that holds in at least 95 % of runs.",
    ),
    ("Units", "Rates are decimal (1 GB/s = 1e9 B/s), capacities binary (1 GiB = 2^30 B)."),
)


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
    """A column's title and what it holds."""

    title: str
    about: str


class CaseRow(NamedTuple):
    """One measured case. `trace` is a link relative to the report, or None."""

    key: str
    label: str
    flags: tuple[str, ...]
    cells: tuple[Cell, ...]
    trace: str | None


class Ended(NamedTuple):
    """A case that was not measured, and why."""

    label: str
    key: str
    status: str
    kind: str
    reason: str


class Report(NamedTuple):
    """Everything that a report says, as plain text; pictures apart."""

    title: str
    subtitle: str
    verdict: tuple[Sentence, ...]
    facts: tuple[Fact, ...]
    machine: tuple[tuple[str, str], ...]
    ceilings: tuple[CeilingRow, ...]
    ceiling_summary: str
    trust: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[CaseRow, ...]
    ended: tuple[Ended, ...]
    conventions: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, str], ...]
    provenance: str


class Source(NamedTuple):
    """One variant of a picture: when to use it, its data URI and its size in CSS pixels."""

    media: str
    uri: str
    width: int
    height: int


class Picture(NamedTuple):
    """A plot in all its variants; the last source is the default."""

    name: str
    title: str
    alt: str
    caption: str
    sources: tuple[Source, ...]


# Words for numbers


def format_metric(name: str, values: Mapping[str, Any]) -> str:
    """One metric of a computed row in words, with the digits that the step time's interval supports."""
    value, metric = values.get(name), metrics.BY_NAME[name]
    if value is None:
        return MISSING
    if isinstance(value, (list, tuple)):
        return " to ".join(by_unit(v, metric.unit) for v in value)
    return by_unit(value, metric.unit, _interval(name, value, values))


def _interval(name: str, value: float, values: Mapping[str, Any]) -> tuple[float, float] | None:
    """Interval of a metric that is an amount over the step time, or the step time itself."""
    middle, ends = values.get("step_s_p50"), values.get("step_s_ci95")
    if not middle or not ends:
        return None
    if name == "step_s_p50":
        return ends[0], ends[1]
    per_second = metrics.BY_NAME[name].unit.endswith("/s") and metrics.BY_NAME[name].unit not in NOT_TIMED
    return (value * middle / ends[1], value * middle / ends[0]) if per_second else None


# The model


def build_report(
    manifest: Manifest,
    records: Sequence[Record],
    machine: Machine,
    *,
    run_dir: str = "RUN",
    traces: Collection[str] = (),
) -> Report:
    """The report as plain data. `run_dir` is named in the resume command; `traces` are the paths that can be linked."""
    found = [r for r in records if r.outcome.status == "ok" and metrics.step_s(r)]
    names = labels(records)
    return Report(
        title=_title(manifest, records, machine),
        subtitle=f"{manifest.name} · {manifest.created_at[:16].replace('T', ' ')} UTC · {_counts(records)}",
        verdict=tuple(verdict(records, machine)),
        facts=tuple(_facts(found, machine, names)),
        machine=tuple(machine_rows(machine)),
        ceilings=tuple(ceiling_rows(machine)),
        ceiling_summary=ceiling_summary(machine),
        trust=(*machine.trust, *_flag_notes(found)),
        columns=(Column("Case", "the axes that vary in this run"), *(Column(t, _about(n)) for n, t in SHOWN)),
        rows=tuple(_row(r, machine, names, traces) for r in found),
        ended=tuple(_ended(r, names) for r in records if r.outcome.status != "ok"),
        conventions=CONVENTIONS,
        commands=tuple(_commands(manifest, run_dir)),
        provenance=f"dlrm-bench {manifest.version}, commit {manifest.commit or 'unknown'}, "
        f"machine {machine.fingerprint.hash}",
    )


def _title(manifest: Manifest, records: Sequence[Record], machine: Machine) -> str:
    models = list(dict.fromkeys(case_name(r.case) for r in records)) or [manifest.name]
    shown = words(models) if len(models) <= 3 else f"{len(models)} models"
    on_gpu = any(r.case.device.startswith("cuda") for r in records) and machine.gpus
    return f"{shown} on {machine.gpus[0].name if on_gpu else machine.cpu.name}"


def _counts(records: Sequence[Record]) -> str:
    counts = Counter("measured" if r.outcome.status == "ok" else r.outcome.status for r in records)
    return ", ".join(f"{counts[s]} {s}" for s in ("measured", "skipped", "failed") if counts[s]) or "no cases"


def _facts(found: Sequence[Record], machine: Machine, names: Mapping[str, str]) -> list[Fact]:
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
    return facts + _precision_fact(found)


def _precision_fact(found: Sequence[Record]) -> list[Fact]:
    widths = [stats.half_width_frac(r.measurement.times_s) for r in found if r.measurement]
    if not widths:
        return []
    return [Fact("Typical precision", f"±{percent(median(widths))}", f"widest ±{percent(max(widths))}, of the median")]


def _embedding_share(record: Record) -> float | None:
    found = record.trace.stages.get("embedding") if record.trace else None
    return found.share_frac if found else None


def _flag_notes(found: Sequence[Record]) -> list[str]:
    flags = Counter(f for r in found if r.measurement for f in r.measurement.flags)
    return [f"{flag.replace('_', ' ')}: {n} of {len(found)} cases" for flag, n in sorted(flags.items())]


def _about(name: str) -> str:
    return ABOUT_SHARE if name == "embedding_share_frac" else metrics.BY_NAME[name].description


def _row(record: Record, machine: Machine, names: Mapping[str, str], traces: Collection[str]) -> CaseRow:
    assert record.measurement is not None
    values = metrics.compute(record, machine)
    path = record.trace.path if record.trace else None
    residency = (record.inputs.residency,) if record.inputs and record.inputs.residency == "cache" else ()
    return CaseRow(
        key=record.key,
        label=names[record.key],
        flags=(*(f.replace("_", " ") for f in record.measurement.flags), *residency),
        cells=tuple(_cell(name, record, values) for name, _ in SHOWN),
        trace=quote(path) if path in traces and path else None,
    )


def _cell(name: str, record: Record, values: Mapping[str, Any]) -> Cell:
    if name == "embedding_share_frac":
        share = _embedding_share(record)
        return Cell(MISSING if share is None else percent(share), "", share)
    value = values[name]
    if value is None:
        return Cell(MISSING)
    interval = _interval(name, value, values)
    with_note = interval and name in ("step_s_p50", "samples_per_s")
    note = ends_text(value, interval, metrics.BY_NAME[name].unit) if interval and with_note else ""
    return Cell(format_metric(name, values), note, value)


def _ended(record: Record, names: Mapping[str, str]) -> Ended:
    outcome = record.outcome
    kind = " ".join(filter(None, (outcome.kind or "", f"({outcome.signal})" if outcome.signal else "")))
    return Ended(names[record.key], record.key, outcome.status, kind.replace("_", " "), outcome.reason or MISSING)


def _commands(manifest: Manifest, run_dir: str) -> list[tuple[str, str]]:
    words_ = manifest.argv if manifest.argv[:1] == ("dlrm-bench",) else ("dlrm-bench", *manifest.argv)
    return [
        ("Run it again", shlex.join(words_)),
        ("Finish or repair this run", shlex.join(("dlrm-bench", "sweep", "--resume", run_dir))),
        ("The numbers as JSON", shlex.join(("dlrm-bench", "show", run_dir, "--json"))),
    ]


# Pictures


def draw_pictures(records: Sequence[Record], machine: Machine) -> list[Picture]:
    """Every plot that these records can fill, in both themes and widths."""
    from bench import plots

    pictures = []
    for name in plots.names():
        plot = plots.load(name)
        sources = _sources(plot, records, machine)
        if sources:
            pictures.append(Picture(name, plot.TITLE, plot.alt(records), plot.CAPTION, sources))
    return pictures


VARIANTS: tuple[tuple[Theme, Width, str], ...] = (
    ("dark", "narrow", "(max-width: 600px) and (prefers-color-scheme: dark)"),
    ("light", "narrow", "(max-width: 600px)"),
    ("dark", "wide", "(prefers-color-scheme: dark)"),
    ("light", "wide", ""),
)


def _sources(plot: Any, records: Sequence[Record], machine: Machine) -> tuple[Source, ...]:
    from bench.plots import style

    found = []
    for theme, width, media in VARIANTS:
        with style.using(theme, width):
            figure = plot.draw(records, machine)
            if figure is None:
                return ()
            found.append(_source(style.to_svg(figure), media))
    return tuple(found)


def _source(svg: str, media: str) -> Source:
    sizes = re.findall(r'(?:width|height)="([\d.]+)pt"', svg[:400])
    width, height = (round(float(s) * 4 / 3) for s in sizes[:2])
    uri = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    return Source(media, uri, width, height)


# Text


def render_html(report: Report, pictures: Sequence[Picture] = ()) -> str:
    """One self-contained page: nothing is fetched, and the page's own policy forbids it."""
    return selfcontained.render(
        "report.html.j2", css=("report.css",), js=("report.js",), report=report, pictures=pictures
    )


def render_markdown(report: Report) -> str:
    """The report's text as GitHub-flavoured Markdown, without pictures."""
    parts = [
        f"# {md(report.title)}",
        md(report.subtitle),
        "\n".join(f"- **{md(s.topic)}.** {md(s.text)}" for s in report.verdict),
    ]
    if report.facts:
        parts.append(_md_table(("", "", ""), [(f.label, f.value, f.note) for f in report.facts]))
    if report.rows:
        columns = [c.title for c in report.columns]
        rows = [(r.label, *(c.text for c in r.cells)) for r in report.rows]
        parts += ["## Cases", _md_table(columns, rows)]
    if report.ended:
        rows = [(e.label, e.status, f"{e.kind}: {e.reason}" if e.kind else e.reason) for e in report.ended]
        parts += ["## Not measured", _md_table(("Case", "Outcome", "Reason"), rows)]
    parts += ["## Machine", _md_table(("", ""), report.machine)]
    if report.ceilings:
        head = ("Ceiling", "Best", "Spread", "Kernel", "Source", "Details")
        parts.append(_md_table(head, report.ceilings))
    if report.trust:
        parts += ["What limits trust:", _md_list(report.trust)]
    parts += ["## How to read this", _md_list([f"{name}: {text}" for name, text in report.conventions])]
    parts += ["## Again", *(f"{md(what)}:\n\n{_md_code(command)}" for what, command in report.commands)]
    return "\n\n".join([*parts, md(report.provenance)]) + "\n"


def md(text: str) -> str:
    """Text that Markdown and a table cell show as it is."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(text.split()))


def _md_list(items: Sequence[str]) -> str:
    return "\n".join(f"- {md(item)}" for item in items)


def _md_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([md(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _md_code(text: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


# The writer


def write_report(path: Path, manifest: Manifest, records: Sequence[Record], run_dir: Path | None = None) -> Path:
    """Write `path` (HTML) and the same name with .md, each whole or not at all; give back `path`.

    `run_dir` is the run's folder where the report is not written into it; traces found there are linked.
    """
    from bench.store import write_atomic

    home = run_dir or path.parent
    machine = manifest.machine
    paths = {r.trace.path for r in records if r.trace}
    linked = {p for p in paths if home == path.parent and _inside(home, p)}
    report = build_report(manifest, records, machine, run_dir=str(home), traces=linked)
    pictures = draw_pictures(records, machine)
    write_atomic(path.with_suffix(".md"), render_markdown(report).encode())
    write_atomic(path, render_html(report, pictures).encode())
    return path


def _inside(home: Path, relative: str) -> bool:
    """Whether a file lies there, below `home`."""
    found = (home / relative).resolve()
    return found.is_relative_to(home.resolve()) and found.is_file()
