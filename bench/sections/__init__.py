"""Parts of a report that only one kind of run has: one file each, `section(run) -> Section or None`. File name = id.

A section is plain data: paragraphs, tables, and the names of plots in bench/sections/plots, which draw the whole run
(bench/plots holds those that need its records alone).
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from bench.reporting.cases import Cell, Column
from bench.run import Run

READING_ORDER = (
    "claims",
    "structure",
    "quality",
    "paper",
    "precision",
    "settings",
    "caches",
    "threads",
    "effects",
    "zoo",
)


class Table(NamedTuple):
    """A title, columns, and rows of as many cells; the first cell of a row names it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Section(NamedTuple):
    """One part of a report. `notes` say how to read it and stand last."""

    name: str
    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Maker(Protocol):
    """What a file in this folder offers."""

    def section(self, run: Run) -> Section | None:
        """The section; None where the run holds nothing for it."""


def names() -> list[str]:
    """Ids of all sections, in reading order; new ones last."""
    found = {p.stem for p in Path(__file__).parent.glob("*.py")} - {"__init__"}
    return [n for n in READING_ORDER if n in found] + sorted(found - set(READING_ORDER))


def load(name: str) -> Maker:
    """One section's module. KeyError names the known ones."""
    if name not in names():
        raise KeyError(f"no section {name!r}; known: {', '.join(names())}")
    return cast("Maker", importlib.import_module(f"bench.sections.{name}"))


def made(run: Run) -> list[Section]:
    """The sections that this run fills."""
    found = (load(name).section(run) for name in names())
    return [section for section in found if section is not None]
