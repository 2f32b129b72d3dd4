"""Sweep files and axes: from TOML and flags to the list of Cases. Pure but for reading the file."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from bench.records import Case, Limits
from bench.study.spec import Comparison, Quality, Training
from workloads import backends, inputs, presets
from workloads.click_log import ClickLogSpec
from workloads.spec import MODEL_AXES, TABLE_AXES, ModelSpec, SpecError, bad_value, unknown, with_axes

SWEEPS = Path(presets.__file__).parent.parent / "sweeps"
CASE_AXES = tuple(f for f in Case.__struct_fields__ if f not in ("model", "code"))
LIMIT_FIELDS = Limits.__struct_fields__
AXES = ("preset", *CASE_AXES, *TABLE_AXES, *MODEL_AXES)

CPU_LIST = r"(\d+(-\d+)?(,\d+(-\d+)?)*)?"

Scalar = int | float | str | bool


class Grid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cartesian product: every combination of the axes on one preset (or a user's own `code`)."""

    preset: str | None = None
    code: str | None = None
    set: dict[str, Scalar] = {}
    axes: dict[str, list[Scalar]] = {}


class Sweep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named sweep: the union of its grids, each case once, the limits of measuring, and what models are to learn."""

    name: str = ""
    description: str = ""
    limits: Limits = Limits()
    grid: tuple[Grid, ...] = ()
    quality: Quality | None = None


def sweep_names() -> list[str]:
    """Names of the sweeps that come with the suite."""
    return sorted(p.stem for p in SWEEPS.glob("*.toml"))


def load_sweep(name_or_file: str) -> Sweep:
    """A named sweep, or a sweep file (anything that ends in .toml). Raises SpecError."""
    if name_or_file.endswith(".toml"):
        return parse_sweep(_read(Path(name_or_file)), name_or_file, Path(name_or_file).stem)
    if name_or_file not in sweep_names():
        known = [*sweep_names(), "or a file that ends in .toml"]
        if name_or_file in presets.names():
            raise SpecError(
                "sweep",
                name_or_file,
                f"that is a preset; a sweep of it is a file with a [[grid]] that has "
                f"preset = {name_or_file!r}, or use profile {name_or_file}; known sweeps: {', '.join(known)}",
            )
        raise unknown("sweep", name_or_file, known)
    return parse_sweep(_read(SWEEPS / f"{name_or_file}.toml"), f"{name_or_file}.toml", name_or_file)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SpecError("sweep", str(path), f"the file cannot be read: {reason}") from None


def parse_sweep(text: str, where: str, name: str) -> Sweep:
    """Sweep from TOML text; `where` names the file in messages. Raises SpecError with the line or the field's path."""
    try:
        plain = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError("TOML", _faulty_line(text, error), f"valid TOML is needed: {error}", where) from None
    try:
        sweep = msgspec.convert(plain, Sweep)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _bad_field(text, plain, error, where) from None
    if not sweep.grid:
        raise SpecError("grid", [], "at least one [[grid]] with a preset is needed", where)
    return msgspec.structs.replace(sweep, name=sweep.name or name)


def _faulty_line(text: str, error: tomllib.TOMLDecodeError) -> str:
    number = getattr(error, "lineno", None)
    if number is None:
        words = str(error).replace(",", " ").split()
        number = int(words[words.index("line") + 1]) if "line" in words else len(text.splitlines())
    lines = text.splitlines()
    return lines[number - 1].strip() if 0 < number <= len(lines) else ""


OWNERS: tuple[tuple[str, Any], ...] = (
    ("quality.comparison.log", ClickLogSpec),
    ("quality.comparison", Comparison),
    ("quality.training", Training),
    ("quality", Quality),
    ("grid", Grid),
    ("limits", Limits),
)


def _bad_field(text: str, plain: Mapping[str, Any], error: Exception, where: str) -> SpecError:
    """msgspec's message with the field, its value and the line it stands on."""
    problem, _, path = str(error).partition(" - at `")
    path = path.rstrip("`").removeprefix("$").removeprefix(".")
    if isinstance(error.__cause__, SpecError):
        own = error.__cause__
        return own.at(_place(text, own.field, path, where))
    plain_path = re.sub(r"\[[^]]*\]", "", path)
    owner = next((struct for prefix, struct in OWNERS if plain_path.startswith(prefix)), Sweep)
    if "unknown field" in problem:
        field = problem.split("`")[1]
        return unknown("key", field, list(owner.__struct_fields__), _place(text, field, path, where))
    key = plain_path.rpartition(".")[2]
    found = bad_value(owner, key, _lookup(plain, path), problem)
    return SpecError(path or "sweep", found.value, found.allowed, _place(text, key, path, where))


def _place(text: str, key: str, path: str, where: str) -> str:
    """The file and, where one is found, the line: the first that begins with `key` in or after the path's table."""
    lines = text.splitlines()
    table = path.partition(".")[0].partition("[")[0]
    begin = next((n for n, line in enumerate(lines) if line.strip().lstrip("[").startswith(table)), 0)
    for number in (*range(begin, len(lines)), *range(begin)):
        if lines[number].strip().lstrip("[").startswith(key):
            return f"{where}, line {number + 1}"
    return where


def _lookup(plain: Any, path: str) -> Any:
    for part in re.sub(r"\[(\d+)\]", r".\1", path.replace("[...]", ".0")).split("."):
        try:
            plain = plain[int(part)] if isinstance(plain, list) else plain[part]
        except (KeyError, IndexError, ValueError, TypeError):
            return plain
    return plain


def parse_value(text: str) -> Scalar:
    """A flag's value as TOML would read it; a bare word is a string."""
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, (int, float, bool)) else text


def parse_flag(flag: str, option: str) -> tuple[str, list[Scalar]]:
    """`name=v1,v2` as a name and its values. Raises SpecError."""
    name, equals, values = flag.partition("=")
    if not equals or not name.strip() or not values.strip():
        raise SpecError(option, flag, f"NAME=VALUE is needed, for example {option} batch_size=128,2048")
    return name.strip(), [parse_value(v.strip()) for v in values.split(",")]


def override(sweep: Sweep, axes: Mapping[str, list[Scalar]], settings: Mapping[str, Scalar]) -> Sweep:
    """The sweep with axes replaced or added in every grid, and settings (limits or single values) put in force."""
    limits = {k: v for k, v in settings.items() if k in LIMIT_FIELDS}
    fixed = {k: v for k, v in settings.items() if k not in LIMIT_FIELDS}
    for name in (*axes, *fixed):
        if name not in AXES:
            raise unknown("axis", name, [*AXES, *LIMIT_FIELDS])
    grids = tuple(_override_grid(grid, axes, fixed) for grid in sweep.grid)
    return msgspec.structs.replace(sweep, grid=grids, limits=_limits(sweep.limits, limits))


def _override_grid(grid: Grid, axes: Mapping[str, list[Scalar]], fixed: Mapping[str, Scalar]) -> Grid:
    merged = {k: v for k, v in grid.axes.items() if k not in fixed} | dict(axes)
    kept = {k: v for k, v in grid.set.items() if k not in axes} | dict(fixed)
    return msgspec.structs.replace(grid, axes=merged, set=kept)


def _limits(limits: Limits, changes: Mapping[str, Scalar]) -> Limits:
    plain = msgspec.to_builtins(limits) | dict(changes)
    try:
        return msgspec.convert(plain, Limits)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `")
        field = path.rstrip("`").removeprefix("$.") or next(iter(changes))
        raise SpecError(field, plain.get(field), problem) from None


def cases(sweep: Sweep) -> tuple[Case, ...]:
    """All cases of the sweep in order, each once. Raises SpecError."""
    found: dict[str, Case] = {}
    for number, grid in enumerate(sweep.grid, 1):
        try:
            for settings in combinations(grid):
                case = make_case(grid.preset, grid.code, settings)
                found.setdefault(case.key(), case)
        except SpecError as error:
            place = f"sweep {sweep.name}, grid {number}"
            raise SpecError(error.field, error.value, error.allowed, error.where or place) from None
    return tuple(found.values())


def combinations(grid: Grid) -> Iterator[dict[str, Scalar]]:
    """The settings of each case of a grid. Raises SpecError for an axis that is none, or has no value."""
    for name, values in grid.axes.items():
        if name not in AXES:
            raise unknown("axis", name, list(AXES))
        if not values:
            raise SpecError(name, values, "an axis needs at least one value")
    for combination in itertools.product(*grid.axes.values()):
        yield grid.set | dict(zip(grid.axes, combination, strict=True))


def make_case(preset: str | None, code: str | None, settings: Mapping[str, Scalar]) -> Case:
    """One case: a preset or a user's `path.py:function`, settings applied in the order given.

    A file to replay is read here, once for all cases with the same tables. Raises SpecError.
    """
    settings = dict(settings)
    preset = str(settings.pop("preset", preset or "")) or None
    if (preset is None) == (code is None):
        raise SpecError("preset", preset, "each grid needs either a preset or code = 'path.py:function'")
    fields: dict[str, Any] = {k: v for k, v in settings.items() if k in CASE_AXES}
    rest = {k: v for k, v in settings.items() if k not in CASE_AXES}
    for name in rest:
        if name not in AXES:
            raise unknown("axis", name, list(AXES))
    if preset is None:
        return _case({"code": _code(code)} | fields)
    chosen = presets.load_preset(preset)
    spec: ModelSpec = with_axes(chosen.spec, rest)
    presets.check_names(spec)
    case = _case({"model": spec, "batch_size": chosen.batch_size} | fields)
    return msgspec.structs.replace(case, model=inputs.bind(spec, case.batch_size))


def code_case(code: str, settings: Mapping[str, Scalar]) -> Case:
    """A case of a user's code, wherever it lies, with settings. Raises SpecError for one that only a model has."""
    for name in settings:
        if name not in CASE_AXES:
            raise unknown("setting of your own code", name, list(CASE_AXES))
    return _case({"code": code} | dict(settings))


def _code(code: str | None) -> str:
    path, _, function = str(code).rpartition(":")
    if not path.endswith(".py") or not function.isidentifier():
        raise SpecError("code", code, "path.py:function is needed")
    if not Path(path).is_file():
        raise SpecError("code", code, f"there is no file {path}")
    return f"{Path(path).resolve()}:{function}"


def _case(fields: Mapping[str, Any]) -> Case:
    try:
        case = msgspec.convert(dict(fields), Case, from_attributes=True)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `")
        field = path.rstrip("`").removeprefix("$.")
        raise bad_value(Case, field, fields.get(field), problem) from None
    _check(case)
    return case


def _check(case: Case) -> None:
    if case.backend not in backends.names():
        raise unknown("backend", case.backend, backends.names())
    if case.optimizer not in backends.OPTIMIZERS:
        raise unknown("optimizer", case.optimizer, list(backends.OPTIMIZERS))
    if case.batch_size < 1:
        raise SpecError("batch_size", case.batch_size, "a whole number above 0")
    if not 0 < case.cache_load_factor <= 1:
        raise SpecError("cache_load_factor", case.cache_load_factor, "a number above 0, at most 1")
    if case.num_threads < 0:
        raise SpecError("num_threads", case.num_threads, "0 (every CPU) or a whole number above 0")
    if case.interop_threads < 0:
        raise SpecError("interop_threads", case.interop_threads, "0 (torch's own choice) or a whole number above 0")
    if not re.fullmatch(CPU_LIST, case.affinity):
        raise SpecError("affinity", case.affinity, "a list of CPUs such as '0,2-3', or '' for every CPU")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", case.device):
        raise unknown("device", case.device, ["cpu", "cuda", "cuda:0"])
