"""The page of inspected traces, and a trace for ui.perfetto.dev. No torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bench.commands.output import stderr
from bench.errors import UsageError
from bench.inspection.case_pages import write_case_pages
from bench.inspection.page import PageModel, write_page
from bench.inspection.page_model import Inspected, page_model
from bench.inspection.result import Inspection, InspectionSet
from bench.perfetto import TraceServer
from bench.records import Record
from bench.sweep import own_version
from bench.terminal import printable
from profiles.machine import Machine
from profiles.trace.columns import Trace
from profiles.trace.components import components
from profiles.trace.gpu import gpu_work
from profiles.trace.rules import Rules


def require_page_path(path: Path) -> None:
    """UsageError where a page could not be written: found before minutes of reading, not after."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"--html {path}: there is no folder {folder}; make it, or name another file")
    if path.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--html {path}: cannot be written; name a file in a folder of yours")


def inspected(found: Inspection, trace: Trace, rules: Rules) -> Inspected:
    """An inspection with the components of all events of its trace."""
    return Inspected(found, components(gpu_work(trace), rules))


def write_inspection(path: Path, found: InspectionSet, traces: Sequence[Trace], rules: Rules) -> None:
    """Write the page of traces, given in the order of `found`."""
    parts = [inspected(one, trace, rules) for one, trace in zip(found.traces, traces, strict=True)]
    reasons = {"against": "The comparison (--against): see the terminal or --json."} if found.against else {}
    if found.not_compared:
        reasons["not_compared"] = f"Ranks beside each other: {found.not_compared}."
    save_page(path, page_model(parts, found.comparison, reasons=reasons, provenance=provenance()))
    stderr().print(f"page: {path}", markup=False, soft_wrap=True)


def write_pages(run_dir: Path, records: Sequence[Record], machine: Machine) -> None:
    """The pages of a run's traces that are not there yet; what cannot be made is told, and the report goes without."""
    for trouble in write_case_pages(run_dir, records, machine, provenance()):
        stderr().print(printable(trouble), markup=False, soft_wrap=True)


def save_page(path: Path, model: PageModel) -> None:
    """Write a page. UsageError where that fails."""
    try:
        write_page(path, model)
    except OSError as error:
        raise UsageError(f"{path}: the page cannot be written ({error.strerror}); name another file") from error


def provenance() -> str:
    """The program that made a page."""
    return f"dlrm-bench {own_version()}"


def serve_trace(paths: Sequence[Path]) -> None:
    """Serve one trace to ui.perfetto.dev until it was fetched. UsageError for several."""
    if len(paths) != 1:
        raise UsageError(f"--perfetto shows one trace, {len(paths)} were given; name one file")
    with TraceServer(paths[0]) as server:
        said = f"open this address in a browser (Ctrl-C ends):\n{server.page_url}"
        stderr().print(said, markup=False, soft_wrap=True)
        server.serve_once()
    stderr().print("fetched; ended")
