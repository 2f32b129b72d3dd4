"""show and report: reading verbs over run folders. No torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench import metrics, store
from bench.between import Between, between, log_ratios
from bench.commands.inspect_page import write_pages
from bench.commands.output import print_json, print_table, stderr
from bench.errors import UsageError
from bench.exporting.as_csv import write_rows
from bench.records import Manifest, Record
from bench.run import Run
from bench.terminal import printable


def show_run(run_dir: Path, *, as_json: bool, as_csv: bool) -> None:
    """Print a run's records with their metrics."""
    from bench.reporting.cases import any_process

    manifest = store.read_manifest(run_dir)
    records = store.read_records(run_dir)
    rows = metrics.rows(records, manifest.machine)
    apart = between(log_ratios(records, store.read_remeasured(run_dir)))
    if as_json:
        wide = [any_process(row["metrics"], apart)["step_s_ci95"] if apart else None for row in rows]
        told = [
            row | {"step_s_ci95_any_process": ends} | _told(record, records, manifest)
            for row, ends, record in zip(rows, wide, records, strict=True)
        ]
        print_json(told)
    elif as_csv:
        write_rows(rows, sys.stdout)
    else:
        _print_rows(manifest, records, rows, apart)


def _told(record: Record, records: Sequence[Record], manifest: Manifest) -> dict[str, Any]:
    """Trust and advice of one case, and which metrics are modelled."""
    from bench.reporting.advice import advice
    from bench.reporting.case_trust import trust

    found = trust(record, manifest.machine)
    return {
        "trust": {"level": found.level, "reasons": list(found.reasons)} if found else None,
        "advice": advice(record, records),
        "modelled": sorted(metrics.MODELLED),
        "settings": msgspec.to_builtins(record.settings),
    }


def _print_rows(
    manifest: Manifest, records: Sequence[Record], rows: Sequence[dict[str, Any]], apart: Between | None
) -> None:
    from bench.reporting.case_trust import trust
    from bench.reporting.cases import any_process, format_metric
    from bench.reporting.quality_line import quality_line

    shown = ("step_s_p50", "samples_per_s", "compulsory_bytes_per_s", "fraction_of_roof", "peak_rss_bytes")
    cells = []
    for row, record in zip(rows, records, strict=True):
        outcome, trusted = row["outcome"], trust(record, manifest.machine)
        if outcome["status"] == "ok":
            values = [format_metric(name, any_process(row["metrics"], apart)) for name in shown]
        else:
            values = [str(outcome.get("reason") or ""), *[""] * (len(shown) - 1)]
        cells.append([row["key"], outcome["status"], *values, trusted.level if trusted else ""])
    columns = ["case", "outcome", "step", "samples/s", "compulsory", "of roof", "peak RSS", "trust"]
    print_table(f"{manifest.name} {manifest.created_at}", columns, cells, right=range(2, 7))
    print(printable(f"conditions: {quality_line(records, manifest.machine, apart)}"))
    print("compulsory bytes and roof are modelled, all else is measured; what stands against a case: --json")


def make_report(run_dirs: Sequence[Path], out: Path | None) -> None:
    """Write report.html and report.md; several runs become one report where machine and settings agree."""
    found = _merged(run_dirs)
    from bench.reporting.report import write_report

    if out is None and len(run_dirs) == 1:
        write_pages(run_dirs[0], found.records, found.machine)
    path = write_report(
        out or run_dirs[0] / "report.html", found.manifest, found.records, trials=found.trials, again=found.again
    )
    stderr().print(f"report: {path}", markup=False, soft_wrap=True)


def _merged(run_dirs: Sequence[Path]) -> Run:
    manifests = [store.read_manifest(d) for d in run_dirs]
    hashes = {m.machine.fingerprint.hash for m in manifests}
    if len(hashes) > 1:
        listed = ", ".join(sorted(hashes))
        raise UsageError(f"these runs are of different machines ({listed}); make a report of each")
    records = {r.key: r for run_dir in run_dirs for r in store.read_records(run_dir)}
    trials = {t.key: t for run_dir in run_dirs for t in store.read_trials(run_dir)}
    again = {r.key: r for run_dir in run_dirs for r in store.read_remeasured(run_dir)}
    return Run(manifests[-1], tuple(records.values()), tuple(trials.values()), tuple(again.values()))
