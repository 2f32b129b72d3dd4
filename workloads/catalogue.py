"""Families of files: a folder's files are the members, the file name is the id."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from types import ModuleType

from workloads.spec import unknown


def names(folder: Path, suffix: str = ".py") -> list[str]:
    """Sorted ids in `folder`: file names without `suffix`, private files (leading underscore) left out."""
    return list(_names(folder, suffix, folder.stat().st_mtime_ns))


@functools.lru_cache(maxsize=64)
def _names(folder: Path, suffix: str, changed_ns: int) -> tuple[str, ...]:
    """Read again once a file has come or gone; a sweep asks thousands of times."""
    found = (p.name.removesuffix(suffix) for p in folder.glob(f"*{suffix}") if not p.name.startswith("_"))
    return tuple(sorted(found))


def require(kind: str, name: str, known: list[str]) -> None:
    """Raise SpecError, with the nearest known name, where `name` is not in `known`."""
    if name not in known:
        raise unknown(kind, name, known)


def load_module(kind: str, package: str, folder: Path, name: str) -> ModuleType:
    """Import the one module `name` of a family. Raises SpecError for an unknown name."""
    require(kind, name, names(folder))
    return importlib.import_module(f"{package}.{name}")
