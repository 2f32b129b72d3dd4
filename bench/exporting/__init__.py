"""Runs in the formats of other tools; one file a format, loaded when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from bench.records import Manifest, Record
from workloads.spec import unknown

FORMATS = {
    "csv": "as_csv",
    "parquet": "as_parquet",
    "pytest-benchmark": "as_pytest_benchmark",
    "asv": "as_asv",
    "google-benchmark": "as_google_benchmark",
}


class Exported(NamedTuple):
    """A run to be written. measured: the records that ran well, all that formats of timings alone can hold."""

    manifest: Manifest
    records: Sequence[Record]

    @property
    def measured(self) -> list[Record]:
        """Records with times."""
        return [r for r in self.records if r.outcome.status == "ok" and r.measurement and r.measurement.times_s]


class Format(Protocol):
    """What a format's module has."""

    SUFFIX: str
    """Of the file; empty where it is a folder."""
    ALL_RECORDS: bool
    """Whether cases without times are in it too."""

    def write(self, run: Exported, path: Path) -> Path:
        """Write the run at `path`; returns the file to tell of. Raises UsageError for what the format cannot hold."""
        ...


def load(name: str) -> Format:
    """The format of this name. Raises SpecError with the known ones."""
    if name not in FORMATS:
        raise unknown("--to", name, list(FORMATS))
    module: Format = importlib.import_module(f"bench.exporting.{FORMATS[name]}")
    return module
