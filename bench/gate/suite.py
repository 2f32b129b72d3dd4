"""SUITE arguments -> named cases, each as base and as head have it; the name is the preset or code, and settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.records import Case
from bench.sweep_spec import SWEEPS, Grid, Scalar, Sweep, code_case, combinations, load_sweep, make_case, parse_sweep
from workloads.spec import SpecError

HONOURED = frozenset(
    ("model", "code", "batch_size", "backend", "device", "dtype", "phase", "optimizer", "num_threads", "seed")
) | {"cache_mode"}
"""Fields of a Case that the gate's sides are told; any other must be what it is by default."""
HONOURED_BY_CODE = frozenset(("code", "device", "num_threads", "seed", "cache_mode"))
"""The same for a user's own code, which makes its step itself."""


class SuiteCase(msgspec.Struct, frozen=True, kw_only=True):
    """One case by name: what base and head make of it; None where a side's sweep file has no such case.

    A user's code is kept as path.py:function relative to the repository, since each side loads its own file.
    """

    name: str
    base: Case | None
    head: Case | None

    @property
    def same(self) -> bool:
        """Whether both sides mean the same work by the name."""
        return self.base == self.head


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One side's checkout: the repository's root there, and the folder in which the command was given."""

    root: Path
    folder: Path


def not_gated(case: Case) -> str | None:
    """Why neither the gate nor the fixture can run such a case: what would silently be run otherwise is refused."""
    if case.cache_mode == "cold":
        return "the gate does not flush caches: cache_mode rotated or hot"
    usual, honoured = Case(), HONOURED_BY_CODE if case.code is not None else HONOURED
    others = [f for f in Case.__struct_fields__ if f not in honoured and getattr(case, f) != getattr(usual, f)]
    if others:
        named = ", ".join(f"{f} {getattr(case, f)!r}" for f in others)
        return f"the gate runs every case with the usual {', '.join(others)}, not with {named}; gate a step of your own"
    return None


def suite_cases(suite: Sequence[str], base: Place | None, head: Place) -> tuple[SuiteCase, ...]:
    """Cases of both sides by name, in head's order, base's own last; without a base the head's stand for both.

    A sweep file that base does not have yet is a question put to both sides: head's file serves base too. Raises
    SpecError where an argument means nothing on either side.
    """
    ours = _cases_of(suite, head)
    theirs = ours if base is None else _cases_of(suite, base, head)
    found = [SuiteCase(name=n, base=theirs.get(n), head=ours.get(n)) for n in dict.fromkeys((*ours, *theirs))]
    if not found:
        raise SpecError("SUITE", " ".join(suite), "a sweep or path.py:function that one of the two sides has")
    return tuple(found)


def _cases_of(suite: Sequence[str], place: Place, fallback: Place | None = None) -> dict[str, Case]:
    found: dict[str, Case] = {}
    for argument in suite:
        if ".py:" in argument:
            found[_code_name(argument)] = Case(code=_code_path(argument, place))
        else:
            found |= _sweep_cases(argument, place, fallback)
    return found


def _code_name(argument: str) -> str:
    return argument.removeprefix("./")


def _code_path(argument: str, place: Place) -> str:
    path, _, function = argument.rpartition(":")
    if not path.endswith(".py") or not function.isidentifier():
        raise SpecError("SUITE", argument, "path.py:function is needed")
    return f"{relative(path, place)}:{function}"


def relative(path: str, place: Place) -> str:
    """The path from the repository's root, or as it is where it lies outside: such a file serves both sides."""
    whole = Path(path) if Path(path).is_absolute() else place.folder / path
    try:
        return str(whole.resolve().relative_to(place.root.resolve()))
    except ValueError:
        return str(whole)


def located(code: str, root: Path) -> str:
    """A case's code with the path where this side has it."""
    path, _, function = code.rpartition(":")
    return f"{path if Path(path).is_absolute() else root / path}:{function}"


def _sweep_cases(argument: str, place: Place, fallback: Place | None) -> dict[str, Case]:
    sweep = _side_sweep(argument, place) or (_side_sweep(argument, fallback) if fallback else None)
    if sweep is None:
        return {}
    found: dict[str, Case] = {}
    for number, grid in enumerate(sweep.grid, 1):
        try:
            for settings in combinations(grid):
                found.setdefault(_name(grid, settings), _make(grid, settings, place))
        except SpecError as error:
            where = error.where or f"sweep {sweep.name}, grid {number}"
            raise SpecError(error.field, error.value, error.allowed, where) from None
    return found


def _side_sweep(argument: str, place: Place) -> Sweep | None:
    """The sweep as this side has it: its own file, or its own workloads' named sweep, or ours."""
    if argument.endswith(".toml"):
        file = place.folder / argument
        return _read_sweep(file, Path(argument).stem) if file.is_file() else None
    own = place.root / "workloads" / "sweeps"
    if own.is_dir() and own.resolve() != SWEEPS.resolve():
        file = own / f"{argument}.toml"
        return _read_sweep(file, argument) if file.is_file() else None
    return load_sweep(argument)


def _read_sweep(file: Path, name: str) -> Sweep:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError("SUITE", file.name, f"a sweep file in UTF-8 text ({error})") from None
    return parse_sweep(text, file.name, name)


def _make(grid: Grid, settings: dict[str, Scalar], place: Place) -> Case:
    if grid.code is not None:
        return code_case(_code_path(grid.code, place), settings)
    preset = settings.get("preset", grid.preset)
    return make_case(None, None, settings | {"preset": _own_preset(str(preset), place) if preset else ""})


def _own_preset(name: str, place: Place) -> str:
    """The side's file of a preset where it has one: presets are part of what may change."""
    named = place.root / "workloads" / "presets" / f"{name}.toml"
    given = place.folder / name
    if name.endswith(".toml"):
        return str(given)
    return str(named) if named.is_file() else name


def _name(grid: Grid, settings: dict[str, Scalar]) -> str:
    what = _code_name(grid.code) if grid.code is not None else str(settings.get("preset", grid.preset))
    return " ".join([what, *(f"{k}={v}" for k, v in settings.items() if k != "preset")])
