"""results/baselines/<machine>/<name>.json, accepted, and <name>.recorded.json, not yet: small files for git."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from bench.baselines.kept import SCHEMA_VERSION, Baseline, Recorded
from bench.errors import SchemaError, UsageError
from profiles.atomic_file import write_atomically

RECORDED = ".recorded.json"
_File = TypeVar("_File", Baseline, Recorded)


def check_name(name: str) -> None:
    """Raises UsageError for a name that would not be a plain file."""
    if not name.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"baseline name {name!r}: letters, digits, - and _ are allowed")


def read_accepted(home: Path, machine_hash: str, name: str) -> Baseline | None:
    """The accepted baseline of this machine, None where there is none. Raises SchemaError."""
    return _read(home / machine_hash / f"{name}.json", Baseline)


def read_recorded(home: Path, machine_hash: str, name: str) -> Recorded | None:
    """The runs recorded on this machine, None where there are none. Raises SchemaError."""
    return _read(home / machine_hash / f"{name}{RECORDED}", Recorded)


def _read(path: Path, kind: type[_File]) -> _File | None:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise SchemaError(f"{path}: not a baseline of schema {SCHEMA_VERSION} ({error})") from None
    if found.schema_version != SCHEMA_VERSION:
        raise SchemaError(f"{path}: a baseline of schema {found.schema_version}, this version reads {SCHEMA_VERSION}")
    return found


def write_accepted(home: Path, baseline: Baseline) -> Path:
    """Write an accepted baseline; returns its path."""
    return _write(home / baseline.machine_hash / f"{baseline.name}.json", baseline)


def write_recorded(home: Path, recorded: Recorded) -> Path:
    """Write the recorded runs; returns the path."""
    return _write(home / recorded.machine_hash / f"{recorded.name}{RECORDED}", recorded)


def _write(path: Path, value: Baseline | Recorded) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); choose a place with --baselines DIR") from None
    return path


def remove_recorded(home: Path, machine_hash: str, name: str) -> None:
    """Take away the recorded runs."""
    (home / machine_hash / f"{name}{RECORDED}").unlink(missing_ok=True)


def all_accepted(home: Path) -> list[Baseline]:
    """Accepted baselines of every machine, by machine and name. Raises SchemaError."""
    paths = [p for p in sorted(home.glob("*/*.json")) if not p.name.endswith(RECORDED)]
    return [found for p in paths if (found := _read(p, Baseline)) is not None]


def all_recorded(home: Path) -> list[Recorded]:
    """Recorded runs of every machine, by machine and name. Raises SchemaError."""
    return [found for p in sorted(home.glob(f"*/*{RECORDED}")) if (found := _read(p, Recorded)) is not None]
