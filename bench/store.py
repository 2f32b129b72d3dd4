"""Run folders: run.json, records.jsonl, remeasured.jsonl, quality.jsonl. The only module that opens result files.

The last three are append-only, one Record or QualityTrial a line, sealed (bench/sealing.py) and on disk before the next
starts. What a kill left of a last line has no newline: readers leave it out, and the next writer sets it aside in
`<file>.torn`. Any other line that is not what was written is an error that names it.
"""

from __future__ import annotations

import datetime
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from bench import schemas
from bench.errors import SchemaError, UsageError
from bench.records import Manifest, QualityTrial, Record
from bench.run_files import open_own
from bench.schemas import Head, Schema
from bench.sealing import is_whole, seal
from profiles.atomic_file import write_atomically

MANIFEST = "run.json"
RECORDS = "records.jsonl"
TRIALS = "quality.jsonl"
REMEASURED = "remeasured.jsonl"
"""Records of cases that were measured once more, by another process."""
TRACES = "traces"
TORN = ".torn"
CHUNK_BYTES = 1 << 20

_Line = TypeVar("_Line", Record, QualityTrial)


class _Checked(NamedTuple):
    """A whole line of a file, without its newline."""

    line: bytes
    head: Head
    where: str


def new_run_dir(root: Path, name: str) -> Path:
    """Make an empty run folder `<utc>-<name>-<4 hex>` below `root`. Raises UsageError where it can't be made."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    run_dir = root / f"{stamp}-{name}-{secrets.token_hex(2)}"
    try:
        (run_dir / TRACES).mkdir(parents=True)
    except OSError as error:
        message = f"{root}: cannot make a run folder here ({error.strerror}); choose a writable one with --out DIR"
        raise UsageError(message) from None
    return run_dir


def write_manifest(run_dir: Path, manifest: Manifest) -> None:
    """Write run.json. Raises UsageError where it cannot be written."""
    path = run_dir / MANIFEST
    try:
        write_atomically(path, msgspec.json.format(seal(msgspec.json.encode(manifest)), indent=1))
    except OSError as error:
        message = f"{path}: cannot be written ({error.strerror}); make room, or choose another place with --out DIR"
        raise UsageError(message) from None


def read_manifest(run_dir: Path) -> Manifest:
    """Read run.json. Raises UsageError where there is none, SchemaError where it cannot be read."""
    path = run_dir / MANIFEST
    try:
        with os.fdopen(open_own(path, os.O_RDONLY), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise UsageError(f"{run_dir}: no {MANIFEST} here; give the folder of a run (see results/local)") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    return schemas.read_document(data, Manifest, schemas.MANIFEST, str(path))


def read_records(run_dir: Path) -> list[Record]:
    """All records in order; a torn last line is left out. Raises SchemaError for any other line that is not whole."""
    return list(_read(run_dir / RECORDS, Record, schemas.RECORD))


def read_trials(run_dir: Path) -> list[QualityTrial]:
    """All quality trials in order, as read_records; none where the run has no quality.jsonl."""
    return list(_read(run_dir / TRIALS, QualityTrial, schemas.TRIAL))


def read_remeasured(run_dir: Path) -> list[Record]:
    """Second records of cases that were measured once more; none where the run has none."""
    return list(_read(run_dir / REMEASURED, Record, schemas.RECORD))


def measured_keys(run_dir: Path) -> set[str]:
    """Keys of cases that ended well; no record is kept."""
    return {r.key for r in _read(run_dir / RECORDS, Record, schemas.RECORD) if r.outcome.status == "ok"}


def remeasured_keys(run_dir: Path) -> set[str]:
    """Keys of what was measured once more; as recorded_keys."""
    return {checked.head.key for checked in _checked(run_dir / REMEASURED, schemas.RECORD)}


def recorded_keys(run_dir: Path) -> set[str]:
    """Keys of what the run has records and trials of; every line is checked, none is kept. Raises SchemaError."""
    files = ((RECORDS, schemas.RECORD), (TRIALS, schemas.TRIAL))
    return {checked.head.key for name, schema in files for checked in _checked(run_dir / name, schema)}


def _read(path: Path, kind: type[_Line], schema: Schema) -> Iterator[_Line]:
    for line, head, where in _checked(path, schema):
        yield schemas.converted(line, head, kind, schema, where)


def _checked(path: Path, schema: Schema) -> Iterator[_Checked]:
    first: dict[str, int] = {}
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        head = schemas.read_head(line, schema, where)
        if head.key in first:
            raise SchemaError(f"{where}: the same case as line {first[head.key]}; {schema.cure}")
        first[head.key] = number
        yield _Checked(line, head, where)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbers and lines of a file; none where it does not exist, and not a torn one at its end."""
    try:
        with os.fdopen(open_own(path, os.O_RDONLY), "rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n") or is_whole(line):
                    yield number, line.rstrip(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None


class Appender:
    """Appends lines to a file of a run, each on disk before `add` returns. Use as a context manager; one writer at a
    time. `name` is RECORDS, REMEASURED or TRIALS."""

    def __init__(self, run_dir: Path, name: str = RECORDS) -> None:
        self._path = run_dir / name
        self._fd = -1

    def __enter__(self) -> Appender:
        try:
            self._fd = open_own(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._mend_the_end()
        except BlockingIOError:
            self.__exit__()
            raise UsageError(f"{self._path.parent}: another dlrm-bench is writing to this run") from None
        except OSError as error:
            self.__exit__()
            raise self._unwritable(error) from None
        return self

    def _mend_the_end(self) -> None:
        """End the last line where only its newline is missing; set aside what is less than a line."""
        size = os.fstat(self._fd).st_size
        end = _end_of_lines(self._fd, size)
        rest = os.pread(self._fd, size - end, end)
        if not rest:
            return
        if is_whole(rest):
            _write_all(self._fd, b"\n")
            return
        aside = open_own(self._path.with_name(self._path.name + TORN), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with os.fdopen(aside, "wb") as file:
            file.write(rest + b"\n")
        os.truncate(self._fd, end)

    def add(self, record: Record | QualityTrial) -> None:
        """Append one line. On a write error the file is cut back to whole lines and UsageError raised."""
        size = os.fstat(self._fd).st_size
        try:
            _write_all(self._fd, seal(msgspec.json.encode(record)) + b"\n")
            os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, size)
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UsageError:
        told = f"cannot be written ({error.strerror}); what was recorded is kept: make it writable or make room"
        return UsageError(f"{self._path}: {told}, then go on with: dlrm-bench sweep --resume {self._path.parent}")

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _end_of_lines(fd: int, size: int) -> int:
    """Offset after the last newline."""
    at = size
    while at > 0:
        begin = max(0, at - CHUNK_BYTES)
        found = os.pread(fd, at - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        at = begin
    return 0
