"""The log of a gate run: run.json says what is compared, gate.jsonl what was measured, one flushed line at a time.

Verdicts are never stored here: they follow from the log (conclude.py), so a recorded run can be judged again.
"""

from __future__ import annotations

import gzip
import os
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import filelock
import msgspec

from bench.errors import SchemaError, UsageError
from bench.gate.presets import Preset
from bench.gate.revisions import Revision
from bench.gate.suite import SuiteCase
from profiles.atomic_file import write_atomically

SCHEMA_VERSION = 1
MANIFEST, LINES, LOCK, PACKED = "run.json", "gate.jsonl", ".lock", ".gz"
MAX_UNPACKED_BYTES = 1 << 28
SideName = Literal["base", "head"]


class MarkerAsk(msgspec.Struct, frozen=True, kw_only=True):
    """What a pytest test's marker asks of the gate: the slow-down to find."""

    tolerance_frac: float | None = None


class GateManifest(msgspec.Struct, frozen=True, kw_only=True):
    """run.json of a gate run. `folder`: where in the repository the command was given.

    `against`: the file of counters that stands for base, in a run of counters only; `save`: the head's are written to a
    file and nothing is compared. `runner` pytest: an epoch is one pytest process per side with pytest_args; `tests`:
    what markers ask.
    """

    schema_version: int
    kind: Literal["gate"]
    created_at: str
    argv: tuple[str, ...]
    suite: tuple[str, ...]
    repository: str
    folder: str
    base: Revision
    head: Revision
    cases: tuple[SuiteCase, ...]
    preset: Preset
    seed: int
    budget_s: float | None
    machine: str
    machine_hash: str
    llc_bytes: int
    version: str
    counters_only: bool = False
    against: str | None = None
    save: bool = False
    runner: Literal["steps", "pytest"] = "steps"
    pytest_args: tuple[str, ...] = ()
    tests: dict[str, MarkerAsk] = {}
    notes: tuple[str, ...] = ()


class EpochPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What chance decided for one epoch: who starts first, how the environments are padded, the order of cases."""

    epoch: int
    stage: int
    seed: int
    first: SideName
    padding_bytes: tuple[int, int]
    order: tuple[str, ...]


class Counted(msgspec.Struct, frozen=True, kw_only=True, tag="counted"):
    """One side's build of a case in the first pass. outcome: ok, absent, error or skipped."""

    case: str
    side: SideName
    outcome: Literal["ok", "absent", "error", "skipped"]
    message: str = ""
    detail: str = ""
    step_s: float | None = None
    counters: dict[str, float] = {}
    unstable: tuple[str, ...] = ()
    torch: str | None = None


class Began(msgspec.Struct, frozen=True, kw_only=True, tag="began"):
    """An epoch begins."""

    plan: EpochPlan


class Blocks(msgspec.Struct, frozen=True, kw_only=True, tag="blocks"):
    """All block pairs of one case in one epoch: mean step seconds per block of either side, in the order run.

    head_first: per pair, whether head ran first. steal_frac, throttled_s: the machine's, per pair, over both blocks.
    """

    epoch: int
    case: str
    steps: int
    base_s: tuple[float | None, ...]
    head_s: tuple[float | None, ...]
    head_first: tuple[bool, ...]
    steal_frac: tuple[float, ...]
    throttled_s: tuple[float, ...]
    faults: tuple[int, int] = (0, 0)


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """A case failed on a side while it was timed."""

    epoch: int
    case: str
    side: SideName
    message: str
    detail: str = ""


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """An epoch (0: the pass that counts) has ended. Lines of an epoch without this one never count."""

    epoch: int
    elapsed_s: float


class Stopped(msgspec.Struct, frozen=True, kw_only=True, tag="stopped"):
    """The time ran out before every epoch that was wanted."""

    elapsed_s: float


Line = Counted | Began | Blocks | Failed | Ended | Stopped


def read_manifest(run_dir: Path) -> GateManifest:
    """run.json of a gate run. Raises UsageError or SchemaError."""
    path = run_dir / MANIFEST
    try:
        found = msgspec.json.decode(_content(path), type=GateManifest)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give the folder of a gate run") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise SchemaError(f"{path}: not a gate run of schema {SCHEMA_VERSION} ({error})") from None
    if found.schema_version != SCHEMA_VERSION:
        raise SchemaError(f"{path}: a gate run of schema {found.schema_version}, this version reads {SCHEMA_VERSION}")
    return found


def read_lines(run_dir: Path) -> list[Line]:
    """All whole lines; a torn last one is left out. Raises SchemaError for a bad line before that."""
    path = run_dir / LINES
    try:
        data = _content(path)
    except FileNotFoundError:
        data = b""
    found: list[Line] = []
    whole = data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]
    for number, line in enumerate(whole, 1):
        try:
            found.append(msgspec.json.decode(line, type=Line))
        except (msgspec.DecodeError, ValueError) as error:
            raise SchemaError(f"{path}, line {number}: not a line of a gate run ({error})") from None
    return found


def _content(path: Path) -> bytes:
    """A file, or what keep() made of it. Raises OSError, and SchemaError where it is damaged or unpacks to too much."""
    packed = path.with_name(path.name + PACKED)
    if path.exists() or not packed.exists():
        return path.read_bytes()
    try:
        with gzip.open(packed) as file:
            data = file.read(MAX_UNPACKED_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SchemaError(f"{packed}: damaged ({error})") from None
    if len(data) > MAX_UNPACKED_BYTES:
        raise SchemaError(f"{packed}: unpacks to over {MAX_UNPACKED_BYTES >> 20} MiB, which no gate run is")
    return data


def keep(run_dir: Path, to: Path) -> None:
    """Write a run packed, for people elsewhere: without the paths and command line of the machine it was made on.

    Tracebacks go, and what stands before a path of the repository, the home folder or the temporary one.
    """
    manifest = read_manifest(run_dir)
    public = msgspec.structs.replace(
        manifest,
        repository="",
        folder="",
        argv=(),
        base=msgspec.structs.replace(manifest.base, python=""),
        head=msgspec.structs.replace(manifest.head, python=""),
    )
    here = sorted(
        {manifest.repository, manifest.folder, str(Path.home()), tempfile.gettempdir()}, key=len, reverse=True
    )
    lines = (
        msgspec.structs.replace(line, detail="") if isinstance(line, Counted | Failed) else line
        for line in read_lines(run_dir)
    )
    content = {
        MANIFEST: _without(msgspec.json.encode(public), here),
        LINES: b"".join(_without(msgspec.json.encode(line), here) + b"\n" for line in lines),
    }
    for name, data in content.items():
        # No time in it: the same run gives the same file.
        write_atomically(to / (name + PACKED), gzip.compress(data, mtime=0))


def _without(data: bytes, folders: Iterable[str]) -> bytes:
    for folder in folders:
        if len(folder) > 1:
            data = data.replace(f"{folder}/".encode(), b"")
    return data


class Writer:
    """Appends lines, each on disk before `add` returns. Use as a context manager; one writer at a time."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / LINES
        self._lock = filelock.FileLock(run_dir / LOCK)
        self._fd = -1

    def __enter__(self) -> Writer:
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise UsageError(f"{self._path.parent}: another dlrm-bench is writing to this run") from None
        if self._path.exists():
            data = self._path.read_bytes()
            os.truncate(self._path, data.rfind(b"\n") + 1)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        return self

    def add(self, line: Line) -> None:
        """Append one line. Raises UsageError where the disk does not take it."""
        data = msgspec.json.encode(line) + b"\n"
        size = os.fstat(self._fd).st_size
        try:
            if os.write(self._fd, data) != len(data):
                raise OSError(28, "No space left on device")
            os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, size)
            raise UsageError(f"{self._path}: cannot be written ({error.strerror}); make room, then --resume") from error

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        self._lock.release()
