"""A run -> a plain model of its report -> HTML and Markdown. Only write_report() at the end touches files.

What stands in it is made elsewhere: sentences (verdict), cases (cases), machine (tables), sections
of one kind of run each (bench/sections), pictures (pictures), text (text).
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import metrics, sections
from bench.between import Between, between, log_ratios
from bench.records import Manifest, QualityTrial, Record
from bench.reporting.cases import (
    SHOWN,
    CaseRow,
    Column,
    Ended,
    Fact,
    case_row,
    columns,
    ended_row,
    facts,
    flag_notes,
    format_metric,
)
from bench.reporting.format import words
from bench.reporting.labels import case_name, labels
from bench.reporting.pictures import draw_pictures, draw_section_pictures
from bench.reporting.quality_line import quality_line
from bench.reporting.tables import CeilingRow, ceiling_rows, ceiling_summary, machine_rows
from bench.reporting.text import render_html, render_markdown
from bench.reporting.verdict import Sentence, verdict
from bench.run import Run
from bench.run_files import inside, page_path
from profiles.machine import Machine

__all__ = [
    "SHOWN",
    "Report",
    "build_report",
    "draw_pictures",
    "draw_section_pictures",
    "format_metric",
    "render_html",
    "render_markdown",
    "write_report",
]

CONVENTIONS = (
    (
        "Measured",
        "Step times (median over repeats; a repeat is a group of steps), latency percentiles (single steps), ceilings, "
        "stage shares (a profiled pass of its own; a stage's time is its share times the timed step), memory, faults.",
    ),
    (
        "Modelled",
        "FLOPs and bytes, counted from the inputs of the case: logical bytes are every row looked up; compulsory bytes "
        "are distinct rows in whole 64-byte lines, once in the forward pass and read and written in the backward pass, "
        "with indices, offsets and outputs; traffic that a cache saved or wasted is in neither. A multiply-add is two "
        "FLOPs.",
    ),
    (
        "Roof",
        "The least time of a step: for each stage the larger of compulsory bytes over the measured ceiling (random "
        "gather of its row size and working set for the embedding, stream for the rest) and FLOPs over the measured "
        "matrix product, added up. Of roof = that time over the measured one. Where a batch looks rows up repeatedly, "
        "lookups answered by a cache take time but add no compulsory bytes, so the fraction reads low; where a cache "
        "keeps rows from the forward to the backward pass, a train step may exceed its roof.",
    ),
    (
        "Intervals",
        "95 % for the median by order statistics, widened for autocorrelation between repeats; only digits that they "
        "support are shown. Another process of the same case may differ by more (memory layout, neighbours). "
        "A sweep measures some cases once more in processes of their own to learn by how much, and intervals in the "
        "first section and in the table of cases are widened by it; those in plots and other sections hold for the "
        "processes that were measured. Only `gate` decides.",
    ),
    ("Units", "Rates are decimal (1 GB/s = 1e9 B/s), capacities binary (1 GiB = 2^30 B)."),
)


class Report(NamedTuple):
    """Everything that a report says, as plain text; pictures apart."""

    title: str
    subtitle: str
    verdict: tuple[Sentence, ...]
    facts: tuple[Fact, ...]
    sections: tuple[sections.Section, ...]
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


def build_report(
    manifest: Manifest,
    records: Sequence[Record],
    machine: Machine,
    *,
    run_dir: str = "RUN",
    traces: Collection[str] = (),
    trials: Sequence[QualityTrial] = (),
    again: Sequence[Record] = (),
) -> Report:
    """The report as plain data. `run_dir` is named in the resume command; `traces` are the files that can be linked;
    `again` are second records of cases, by other processes.
    """
    apart = between(log_ratios(records, again))
    found = [r for r in records if r.outcome.status == "ok" and metrics.step_s(r)]
    names = labels(records)
    return Report(
        title=_title(manifest, records, machine),
        subtitle=f"{manifest.name} · {manifest.created_at[:16].replace('T', ' ')} UTC · {_counts(records)}",
        verdict=tuple(verdict(records, machine, apart)),
        facts=tuple(facts(found, machine, names, apart)),
        sections=tuple(sections.made(Run(manifest, tuple(records), tuple(trials)))),
        machine=tuple(machine_rows(machine)),
        ceilings=tuple(ceiling_rows(machine)),
        ceiling_summary=ceiling_summary(machine),
        trust=(*_quality(found, machine, apart), *machine.trust, *flag_notes(found)),
        columns=columns(),
        rows=tuple(case_row(r, machine, names, traces, apart) for r in found),
        ended=tuple(ended_row(r, names) for r in records if r.outcome.status != "ok"),
        conventions=_conventions(found, machine),
        commands=tuple(_commands(manifest, run_dir)),
        provenance=f"dlrm-bench {manifest.version}, commit {manifest.commit or 'unknown'}, "
        f"machine {machine.fingerprint.hash}",
    )


def _conventions(found: Sequence[Record], machine: Machine) -> tuple[tuple[str, str], ...]:
    """How to read the report; whether anything stands beside the model depends on the run."""
    counted = sum(metrics.value(r, machine, "memory_traffic_bytes_per_s") is not None for r in found)
    told = (
        f"Beside the model, the memory controllers' own counters were read in {counted} of {len(found)} cases, of the "
        "whole machine: memory_traffic_bytes_per_s and traffic_over_compulsory in `show --json`."
        if counted
        else "No counter of memory traffic was read in this run."
    )
    return tuple((name, f"{text} {told}" if name == "Modelled" else text) for name, text in CONVENTIONS)


def _quality(found: Sequence[Record], machine: Machine, apart: Between | None) -> list[str]:
    return [f"Conditions of this run: {quality_line(found, machine, apart)}."] if found else []


def _title(manifest: Manifest, records: Sequence[Record], machine: Machine) -> str:
    models = list(dict.fromkeys(case_name(r.case) for r in records)) or [manifest.name]
    shown = words(models) if len(models) <= 3 else f"{len(models)} models"
    gpus = dict.fromkeys(gpu.name for r in records if (gpu := machine.gpu(r.case.device)))
    return f"{shown} on {words(list(gpus)) if gpus else machine.cpu.name}"


def _counts(records: Sequence[Record]) -> str:
    counts = Counter("measured" if r.outcome.status == "ok" else r.outcome.status for r in records)
    return ", ".join(f"{counts[s]} {s}" for s in ("measured", "skipped", "failed") if counts[s]) or "no cases"


def _commands(manifest: Manifest, run_dir: str) -> list[tuple[str, str]]:
    words_ = manifest.argv if manifest.argv[:1] == ("dlrm-bench",) else ("dlrm-bench", *manifest.argv)
    return [
        ("Run it again", shlex.join(words_)),
        ("Finish or repair this run", shlex.join(("dlrm-bench", "sweep", "--resume", run_dir))),
        ("The numbers as JSON", shlex.join(("dlrm-bench", "show", run_dir, "--json"))),
    ]


def write_report(
    path: Path,
    manifest: Manifest,
    records: Sequence[Record],
    run_dir: Path | None = None,
    trials: Sequence[QualityTrial] = (),
    again: Sequence[Record] = (),
) -> Path:
    """Write `path` (HTML) and the same name with .md, each whole or not at all; give back `path`.

    `run_dir` is the run's folder where the report is not written into it; traces and pages found there are linked.
    """
    from profiles.atomic_file import write_atomically

    home = run_dir or path.parent
    machine = manifest.machine
    traced = {r.trace.path for r in records if r.trace}
    linked = {p for p in traced | {page_path(t) for t in traced} if home == path.parent and inside(home, p)}
    report = build_report(manifest, records, machine, run_dir=str(home), traces=linked, trials=trials, again=again)
    pictures = draw_pictures(records, machine)
    pictures += draw_section_pictures(Run(manifest, tuple(records), tuple(trials)), report.sections)
    write_atomically(path.with_suffix(".md"), render_markdown(report).encode())
    write_atomically(path, render_html(report, pictures).encode())
    return path
