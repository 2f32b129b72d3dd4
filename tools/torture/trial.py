"""What one trial of the torture came to, and the file that keeps them so that it can go on where it stopped."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec


class Trial(msgspec.Struct, frozen=True):
    """One sweep that was tortured. `events`: kills, or 1; `note` says what happened.

    lost: records that had been written, or told to the user, and are gone; duplicated: cases with two records; wrong:
    anything else that should not be.
    """

    kind: str
    number: int
    events: int
    lost: int = 0
    duplicated: int = 0
    wrong: tuple[str, ...] = ()
    note: tuple[str, ...] = ()
    skipped: str | None = None


class Total(NamedTuple):
    """All trials of one kind."""

    kind: str
    sweeps: int
    events: int
    lost: int
    duplicated: int
    wrong: int
    skipped: str | None


def totals(trials: Iterable[Trial]) -> list[Total]:
    """One row for each kind, in order of appearance."""
    kinds: dict[str, list[Trial]] = {}
    for trial in trials:
        kinds.setdefault(trial.kind, []).append(trial)
    return [
        Total(
            kind,
            sum(t.skipped is None for t in found),
            sum(t.events for t in found),
            sum(t.lost for t in found),
            sum(t.duplicated for t in found),
            sum(len(t.wrong) for t in found),
            next((t.skipped for t in found if t.skipped), None),
        )
        for kind, found in kinds.items()
    ]


def read(path: Path) -> list[Trial]:
    """Trials done before; a torn last line is left out."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [msgspec.json.decode(line, type=Trial) for line in lines if line.endswith(b"\n")]


def keep(path: Path, trial: Trial) -> None:
    """Append one trial."""
    with path.open("ab") as file:
        file.write(msgspec.json.encode(trial) + b"\n")
