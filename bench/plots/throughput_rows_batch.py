"""samples/s over table rows and batch size, a panel per dim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.plots import heatmap
from bench.records import Record
from profiles.machine import Machine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Throughput by table rows and batch size"
CAPTION = (
    "Measured. The same samples per second, turned: tables that fit the last-level cache against tables that do not, "
    "at each dim. Where both rows of a panel read alike, the size of the tables does not matter there."
)


def alt(records: Sequence[Record]) -> str:
    """The picture in words."""
    return heatmap.alt(records, "rows", "dim")


def draw(records: Sequence[Record], machine: Machine) -> Figure | None:
    """None where rows and batch size do not both vary."""
    return heatmap.draw(records, machine, "rows", "dim")
