"""One plot per file: TITLE, CAPTION, alt(records) and draw(records, machine) -> Figure or None. File name = id."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.records import Record
    from profiles.machine import Machine

SUPPORT = ("__init__", "style", "heatmap", "ratio_rows")
READING_ORDER = (
    "stages",
    "backends",
    "throughput_dim_batch",
    "throughput_rows_batch",
    "scaling_batch",
    "scaling_rows",
    "bandwidth",
    "roofline",
    "spread",
    "telemetry",
)


class Plot(Protocol):
    """What a module in this folder provides. `draw` gives None where the records do not hold what it shows."""

    TITLE: str
    CAPTION: str

    def alt(self, records: Sequence[Record]) -> str:
        """The picture in words."""

    def draw(self, records: Sequence[Record], machine: Machine) -> Figure | None:
        """The picture, in the look that style.using() set."""


def names() -> list[str]:
    """Ids of all plots, in reading order; new ones last."""
    found = {p.stem for p in Path(__file__).parent.glob("*.py")} - set(SUPPORT)
    return [n for n in READING_ORDER if n in found] + sorted(found - set(READING_ORDER))


def load(name: str) -> Plot:
    """One plot. KeyError names the known ones."""
    if name not in names():
        raise KeyError(f"no plot {name!r}; known: {', '.join(names())}")
    return cast("Plot", importlib.import_module(f"bench.plots.{name}"))
