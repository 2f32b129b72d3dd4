"""The deterministic tier's decisions: counters compared exactly, head against base or against a stored file. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.errors import SchemaError, UsageError
from bench.gate.log import Counted
from bench.gate.verdict import CounterChange
from profiles.atomic_file import write_atomically

SCHEMA_VERSION = 1


class CountersFile(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of a suite at one revision, small enough to review. Counts depend on torch's version, kept beside."""

    schema_version: int
    revision: str
    torch: str | None
    cases: dict[str, dict[str, float]]


def compare(base: Counted, head: Counted) -> tuple[CounterChange, ...]:
    """Counters that differ, breaches first; one that only one side could count is told and breaches nothing.

    One that is unstable on either side is left out.
    """
    names = sorted((base.counters.keys() | head.counters.keys()) - {*base.unstable, *head.unstable})
    pairs = [(name, base.counters.get(name), head.counters.get(name)) for name in names]
    found = [
        CounterChange(name=name, base=old, head=new, breach=old is not None and new is not None and new > old)
        for name, old, new in pairs
        if old != new
    ]
    return tuple(sorted(found, key=lambda c: not c.breach))


def as_file(lines: Sequence[Counted], revision: str) -> CountersFile:
    """The head's counters as a file to compare with later. Raises UsageError where a case could not be counted."""
    for line in lines:
        if line.outcome in ("error", "absent"):
            raise UsageError(f"{line.case}: {line.message}; counters are saved only where every case runs")
    counted = [line for line in lines if line.outcome == "ok"]
    torch = next((line.torch for line in counted if line.torch), None)
    return CountersFile(
        schema_version=SCHEMA_VERSION,
        revision=revision,
        torch=torch,
        cases={line.case: dict(sorted(line.counters.items())) for line in counted},
    )


def write(path: Path, file: CountersFile) -> None:
    """Write a file of counters."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")


def read(path: Path) -> CountersFile:
    """Read a file of counters. Raises UsageError or SchemaError."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=CountersFile)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror}); make one with gate --counters-only --save {path} SUITE"
        ) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise SchemaError(f"{path}: not a file of counters ({error})") from None
    if found.schema_version != SCHEMA_VERSION:
        raise SchemaError(f"{path}: counters of schema {found.schema_version}, this version reads {SCHEMA_VERSION}")
    return found


def as_base(file: CountersFile) -> tuple[Counted, ...]:
    """The stored counters as base's lines of a log."""
    return tuple(
        Counted(case=name, side="base", outcome="ok", counters=counters, torch=file.torch)
        for name, counters in file.cases.items()
    )
