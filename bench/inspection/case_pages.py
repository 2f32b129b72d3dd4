"""The pages of a run's traces: traces/<case>.html beside each trace, made where they are missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.inspection.page import write_page
from bench.inspection.profiling import look, page_of
from bench.records import Record
from bench.run_files import inside, page_path
from profiles.machine import Machine
from profiles.trace.errors import TraceError


def write_case_pages(run_dir: Path, records: Sequence[Record], machine: Machine, provenance: str) -> list[str]:
    """Make the pages that are not there yet; answers what could not be made, and why."""
    troubles = []
    for record in records:
        if record.trace is None or not inside(run_dir, record.trace.path):
            continue
        target = page_path(record.trace.path)
        if inside(run_dir, target):
            continue
        try:
            looked = look(run_dir / record.trace.path, record, machine)
            write_page(run_dir / target, page_of(looked, record, machine, provenance))
        except (TraceError, OSError, ValueError) as error:
            troubles.append(f"{target}: no page ({error})")
    return troubles
