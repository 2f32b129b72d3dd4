"""Printing for people and for programs: JSON and tables on stdout, notes on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.terminal import printable


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
    sys.stdout.flush()


class _Output(Console):
    """Rich ends the process with 1 where a reader closes the pipe; here 1 means a regression, so cli decides."""

    def on_broken_pipe(self) -> None:
        """Tell the command line."""
        raise BrokenPipeError


def stderr() -> Console:
    """The console for progress and notes."""
    return _Output(stderr=True, highlight=False)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> None:
    """A table on stdout; wide enough for its content where stdout is not a terminal."""
    console = _Output(highlight=False)
    if not console.is_terminal:
        console = _Output(highlight=False, width=200)
    table = Table(title=Text(printable(title)), title_justify="left", title_style="bold")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)
