"""Comma-separated values: one row a case, every metric a column; values that are lists are joined by spaces."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from bench import metrics
from bench.exporting import Exported
from bench.terminal import printable

SUFFIX, ALL_RECORDS = ".csv", True


def write(run: Exported, path: Path) -> Path:
    """One file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        write_rows(metrics.rows(run.records, run.manifest.machine), file)
    return path


def write_rows(rows: Sequence[dict[str, Any]], file: TextIO) -> None:
    """Rows of metrics.rows as a table."""
    names = [m.name for m in metrics.METRICS]
    out = csv.writer(file)
    out.writerow(["key", "status", "reason", *names])
    for row in rows:
        cells = [_cell(row["metrics"].get(name)) for name in names]
        reason = printable(row["outcome"].get("reason") or "")
        out.writerow([printable(row["key"]), row["outcome"]["status"], reason, *cells])


def _cell(value: Any) -> Any:
    return " ".join(map(repr, value)) if isinstance(value, (list, tuple)) else value
