"""Schemas of what a run folder holds, and how older ones are read. Pure: a line or a document in, a struct out.

LIFTS[n] turns a plain object of schema n into one of schema n + 1; each has a stored example under tests/data/schemas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import msgspec

from bench.errors import SchemaError
from bench.records import SCHEMA_VERSION, TRIAL_SCHEMA_VERSION, Manifest, QualityTrial, Record
from bench.sealing import BrokenSealError, unseal, unseal_document

Lift = Callable[[dict[str, Any]], dict[str, Any]]
Kind = TypeVar("Kind", Record, QualityTrial, Manifest)
SEALED_SINCE = 2
"""Before this schema nothing had a checksum; since, what has none was edited."""


def _sealed_since(plain: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 to 2: only the seal was added, which is checked before anything is lifted."""
    return plain | {"schema_version": 2}


class Schema(NamedTuple):
    """What is written now under one name, the steps that lead to it, and what to do about a damaged one."""

    name: str
    now: int
    lifts: dict[int, Lift]
    cure: str


_LINE_CURE = (
    "something edited or damaged this line after it was written. Restore the file from a copy; or delete the line, "
    "and `dlrm-bench sweep --resume` runs its case again"
)
_FILE_CURE = "something edited or damaged it after it was written: restore it from a copy"
RECORD = Schema("a record", SCHEMA_VERSION, {1: _sealed_since}, _LINE_CURE)
TRIAL = Schema("a quality trial", TRIAL_SCHEMA_VERSION, {1: _sealed_since}, _LINE_CURE)
MANIFEST = Schema("a manifest", SCHEMA_VERSION, {1: _sealed_since}, _FILE_CURE)


class Head(msgspec.Struct, frozen=True):
    """What is read of a line first: cheap, and the same in every schema."""

    schema_version: int
    key: str = ""


def read_head(line: bytes, schema: Schema, where: str) -> Head:
    """Schema and key of one line of a file, whose seal is whole. Raises SchemaError, which names `where`."""
    return _head(line, unseal, schema, where)


def read_document(data: bytes, kind: type[Kind], schema: Schema, where: str) -> Kind:
    """The same of a file that is one object over several lines."""
    return converted(data, _head(data, unseal_document, schema, where), kind, schema, where)


def _head(data: bytes, unsealed: Callable[[bytes], bytes | None], schema: Schema, where: str) -> Head:
    try:
        head = msgspec.json.decode(data, type=Head)
        sealed = unsealed(data) is not None
    except BrokenSealError as error:
        raise SchemaError(f"{where}: {error}; {schema.cure}") from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise SchemaError(f"{where}: not {schema.name} ({error}); {schema.cure}") from None
    if head.schema_version > schema.now:
        newer = f"schema {head.schema_version} is newer than this program's {schema.now}"
        raise SchemaError(f"{where}: {newer}; read it with a newer dlrm-bench")
    if head.schema_version >= SEALED_SINCE and not sealed:
        raise SchemaError(f"{where}: its checksum is gone; {schema.cure}")
    return head


def converted(data: bytes, head: Head, kind: type[Kind], schema: Schema, where: str) -> Kind:
    """What was checked to have this head, lifted to the schema of now. Raises SchemaError."""
    try:
        if head.schema_version == schema.now:
            return msgspec.json.decode(data, type=kind)
        return msgspec.convert(_lifted(msgspec.json.decode(data), head.schema_version, schema, where), kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        found = f"not {schema.name} of schema {head.schema_version} ({error})"
        raise SchemaError(f"{where}: {found}; {schema.cure}") from None


def _lifted(plain: dict[str, Any], version: int, schema: Schema, where: str) -> dict[str, Any]:
    for step in range(version, schema.now):
        if step not in schema.lifts:
            raise SchemaError(f"{where}: schema {step} is not known to this program; {schema.cure}")
        plain = schema.lifts[step](plain)
    return plain
