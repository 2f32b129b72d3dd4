"""Parquet: one row a case, every metric a column; lists stay lists. Null where a metric could not be measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import metrics
from bench.exporting import Exported

SUFFIX, ALL_RECORDS = ".parquet", True


def write(run: Exported, path: Path) -> Path:
    """One file."""
    import pyarrow
    from pyarrow import parquet

    rows = metrics.rows(run.records, run.manifest.machine)
    columns: dict[str, list[Any]] = {
        "key": [row["key"] for row in rows],
        "status": [row["outcome"]["status"] for row in rows],
        "reason": [row["outcome"].get("reason") for row in rows],
        "fingerprint": [run.manifest.machine.fingerprint.hash for _ in rows],
        "commit": [run.manifest.commit for _ in rows],
    }
    columns |= {m.name: [_plain(row["metrics"].get(m.name)) for row in rows] for m in metrics.METRICS}
    parquet.write_table(pyarrow.table(columns), path)
    return path


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
