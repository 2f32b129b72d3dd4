"""Named models: one TOML file each, the file name is the id. A user's own file is read the same way.

Top-level keys: the fields of ModelSpec, batch_size, source, notes. `[[tables]]` entries hold the fields of TableSpec;
`count` repeats an entry, and num_rows, dim and pooling_factor may be lists, one table per element. Tables are named
`name` (default `t`) with their number behind.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from workloads import catalogue, indices, lengths, models
from workloads.spec import REPLAY, ModelSpec, SpecError, TableSpec, unknown

FOLDER = Path(__file__).parent
LISTS = ("num_rows", "dim", "pooling_factor")
_TABLE_KEYS = ("count", *TableSpec.__struct_fields__)
_MODEL_KEYS = (
    "batch_size",
    "source",
    "notes",
    *(f for f in ModelSpec.__struct_fields__ if f not in ("name", "captured")),
)


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """A named model with the batch size (samples per step) it is published with, where it comes from and remarks."""

    spec: ModelSpec
    batch_size: int = 1
    source: str = ""
    notes: str = ""


def names() -> list[str]:
    """Ids of all presets that come with the suite."""
    return catalogue.names(FOLDER, ".toml")


def load_preset(name: str) -> Preset:
    """The preset called `name`, or read from the file `name` where it ends in .toml.

    Raises SpecError that names file, field, value and what is allowed (for a TOML syntax error: the line).
    """
    if not name.endswith(".toml"):
        catalogue.require("preset", name, names())
        return read_preset(FOLDER / f"{name}.toml")
    return read_preset(Path(name))


def read_preset(path: Path) -> Preset:
    """The preset in the file at `path`, named as the file. Raises SpecError."""
    where = path.name if path.parent == FOLDER else str(path)
    try:
        return _made(path.stem, _text(path))
    except SpecError as error:
        raise error.at(where) from None


def check_names(spec: ModelSpec) -> None:
    """Raise SpecError where the spec names a variant, index law or length law that does not exist."""
    if spec.variant not in models.names():
        raise unknown("variant", spec.variant, models.names())
    for t, table in enumerate(spec.tables):
        for field, known in (("indices", indices.names()), ("lengths", lengths.names())):
            if getattr(table, field) == REPLAY:
                raise SpecError(field, REPLAY, "a law; lookups are replayed by --axis replay=FILE")
            if getattr(table, field) not in known:
                raise unknown(f"tables[{t}].{field}", getattr(table, field), known)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError("file", str(path), f"a readable file: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SpecError("file", str(path), f"UTF-8 text: {error.reason} at byte {error.start}") from None


@functools.lru_cache(maxsize=32)
def _made(name: str, text: str) -> Preset:
    """A sweep asks for the same few presets for each of its cases."""
    try:
        return _preset(name, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(text, str(error)) from None


def _syntax_error(text: str, message: str) -> SpecError:
    found = re.search(r"\(at line (\d+)", message)
    lines = text.splitlines() or [""]
    number = int(found.group(1)) if found else len(lines)
    return SpecError(f"line {number}", lines[min(number, len(lines)) - 1].strip(), f"TOML: {message}")


def _preset(name: str, raw: dict[str, Any]) -> Preset:
    _check_keys(raw, _MODEL_KEYS, "")
    model = {key: value for key, value in raw.items() if key in ModelSpec.__struct_fields__} | {"name": name}
    model["tables"] = list(_tables(raw.get("tables", [])))
    spec: ModelSpec = _convert(model, ModelSpec, "")
    check_names(spec)
    outer = {key: value for key, value in raw.items() if key in Preset.__struct_fields__} | {"spec": spec}
    preset: Preset = _convert(outer, Preset, "")
    if preset.batch_size < 1:
        raise SpecError("batch_size", preset.batch_size, "a whole number of at least 1")
    return preset


def _check_keys(raw: dict[str, Any], known: tuple[str, ...], path: str) -> None:
    for key in raw:
        if key not in known:
            raise unknown(f"{path}key", key, list(known))


def _tables(entries: Any) -> Iterator[dict[str, Any]]:
    """Table fields, one dict per table, each tried as a TableSpec so that errors name the entry in the file."""
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise SpecError("tables", entries, "an array of tables: [[tables]]")
    number = 0
    for e, entry in enumerate(entries):
        path = f"tables[{e}]."
        _check_keys(entry, _TABLE_KEYS, path)
        for fields in _expand(entry, path):
            named = fields | {"name": f"{fields.get('name', 't')}{number}"}
            _convert(named, TableSpec, path)
            number += 1
            yield named


def _expand(entry: dict[str, Any], path: str) -> Iterator[dict[str, Any]]:
    listed = {key: entry[key] for key in LISTS if isinstance(entry.get(key), list)}
    count = entry.get("count", len(next(iter(listed.values()), [None])))
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 100_000:
        raise SpecError(f"{path}count", count, "a whole number from 1 to 100000")
    for key, values in listed.items():
        if len(values) != count:
            raise SpecError(f"{path}{key}", values, f"a list of {count} values, one per table (found {len(values)})")
    shared = {key: value for key, value in entry.items() if key != "count"}
    for i in range(count):
        yield shared | {key: values[i] for key, values in listed.items()}


def _convert(raw: dict[str, Any], kind: type[Any], path: str) -> Any:
    """`raw` as a struct; SpecError with the field's full path where it does not fit."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        cause = error.__cause__
        if isinstance(cause, SpecError):
            raise SpecError(f"{path}{cause.field}", cause.value, cause.allowed) from None
        raise _type_error(raw, str(error), path) from None


def _type_error(raw: dict[str, Any], message: str, path: str) -> SpecError:
    """msgspec says `Expected int, got str - at $.dim`: the field from it, the value from `raw`."""
    problem, _, place = message.partition(" - at ")
    field = place.strip("`").removeprefix("$.") or "file"
    missing = re.search(r"missing required field `(\w+)`", problem)
    if missing:
        return SpecError(f"{path}{missing.group(1)}", None, "it is required")
    return SpecError(f"{path}{field}", raw.get(field.split("[")[0]), problem)
