"""Run folders: run.json, records.jsonl, quality.jsonl. The only module that opens result files.

The last two are append-only, one Record or QualityTrial a line, flushed to disk before the next starts. A line that a
kill tore is never accepted: it has no newline at its end, or does not decode, and is cut off when the run is resumed.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import filelock
import msgspec

from bench.errors import SchemaError, UsageError
from bench.records import SCHEMA_VERSION, TRIAL_SCHEMA_VERSION, Manifest, QualityTrial, Record
from profiles.atomic_file import write_atomically

MANIFEST = "run.json"
RECORDS = "records.jsonl"
TRIALS = "quality.jsonl"
TRACES = "traces"
LOCK = ".lock"

Lift = Callable[[dict[str, Any]], dict[str, Any]]
Lifts = dict[int, Lift]
LIFTS: Lifts = {}
"""LIFTS[n] turns a record of schema n into one of schema n + 1."""
TRIAL_LIFTS: Lifts = {}
"""The same for trials, whose schema counts for itself."""

_Line = TypeVar("_Line", Record, QualityTrial)


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
    """Write run.json."""
    write_atomically(run_dir / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def read_manifest(run_dir: Path) -> Manifest:
    """Read run.json. Raises UsageError where there is none, SchemaError where it cannot be read."""
    path = run_dir / MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise UsageError(f"{run_dir}: no {MANIFEST} here; give the folder of a run (see results/local)") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise SchemaError(f"{path}: not a manifest of schema {SCHEMA_VERSION} ({error})") from None


def read_records(run_dir: Path) -> list[Record]:
    """All whole records in order; a torn last line is left out. Raises SchemaError for a bad line before that."""
    return _read(run_dir / RECORDS, Record, SCHEMA_VERSION, LIFTS)


def read_trials(run_dir: Path) -> list[QualityTrial]:
    """All whole quality trials in order, as read_records; none where the run has no quality.jsonl."""
    return _read(run_dir / TRIALS, QualityTrial, TRIAL_SCHEMA_VERSION, TRIAL_LIFTS)


def _read(path: Path, kind: type[_Line], schema: int, lifts: Lifts) -> list[_Line]:
    data = path.read_bytes() if path.exists() else b""
    whole, _ = _split(data)
    return [_decode(line, kind, schema, lifts, f"{path}, line {number}") for number, line in enumerate(whole, 1)]


def _split(data: bytes) -> tuple[list[bytes], int]:
    """Complete lines, and how many bytes they take; a last line that does not parse counts as torn."""
    end = data.rfind(b"\n") + 1
    lines = data[:end].split(b"\n")[:-1]
    if lines and not _parses(lines[-1]):
        end -= len(lines.pop()) + 1
    return lines, end


def _parses(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, ValueError):
        return False
    return True


def _decode(line: bytes, kind: type[_Line], schema: int, lifts: Lifts, where: str) -> _Line:
    try:
        plain = msgspec.json.decode(line)
        return msgspec.convert(_lift(plain, schema, lifts, where), kind)
    except (msgspec.DecodeError, ValueError) as error:
        raise SchemaError(f"{where}: not a record ({error}); the file was edited or damaged") from None


def _lift(plain: Any, schema: int, lifts: Lifts, where: str) -> Any:
    if not isinstance(plain, dict) or not isinstance(plain.get("schema_version"), int):
        raise SchemaError(f"{where}: no schema_version; not a record of dlrm-bench")
    version = plain["schema_version"]
    if version > schema:
        raise SchemaError(
            f"{where}: schema {version} is newer than this program's {schema}; read it with a newer dlrm-bench"
        )
    for step in range(version, schema):
        if step not in lifts:
            raise SchemaError(f"{where}: schema {step} is not known to this program")
        plain = lifts[step](plain)
    return plain


class Appender:
    """Appends lines to a file of a run, each on disk before `add` returns. Use as a context manager; one writer at a
    time. `name` is RECORDS or TRIALS."""

    def __init__(self, run_dir: Path, name: str = RECORDS) -> None:
        self._path = run_dir / name
        self._lock = filelock.FileLock(run_dir / LOCK)
        self._fd = -1

    def __enter__(self) -> Appender:
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise UsageError(f"{self._path.parent}: another dlrm-bench is writing to this run") from None
        self._cut_torn_tail()
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        return self

    def _cut_torn_tail(self) -> None:
        if self._path.exists():
            data = self._path.read_bytes()
            _, end = _split(data)
            if end < len(data):
                os.truncate(self._path, end)

    def add(self, record: Record | QualityTrial) -> None:
        """Append one line. On a write error the file is cut back to whole records and the error raised."""
        line = msgspec.json.encode(record) + b"\n"
        size = os.fstat(self._fd).st_size
        try:
            written = os.write(self._fd, line)
            if written != len(line):
                raise OSError(28, "No space left on device")
            os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, size)
            message = f"{self._path}: cannot be written ({error.strerror}); make room, then --resume this run"
            raise UsageError(message) from error

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        self._lock.release()


@contextlib.contextmanager
def machine_lock() -> Iterator[None]:
    """Hold this machine for one benchmark. Raises UsageError naming the holder's pid where it is taken."""
    path = Path(os.environ.get("DLRM_BENCH_LOCK", "/tmp/dlrm-bench.lock"))
    holder = path.with_suffix(".pid")
    lock = filelock.FileLock(path, mode=0o666)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        pid = holder.read_text().strip() if holder.exists() else "unknown"
        message = f"another benchmark runs on this machine (pid {pid}); timings would disturb each other: wait for it"
        raise UsageError(message) from None
    try:
        holder.write_text(str(os.getpid()))
        yield
    finally:
        lock.release()
