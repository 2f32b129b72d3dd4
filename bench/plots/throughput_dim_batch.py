"""samples/s over dim and batch size, a panel per table size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.plots import heatmap
from bench.records import Record
from profiles.machine import Machine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Throughput by dim and batch size"
CAPTION = (
    "Measured. Samples per second, one colour scale for all panels. Down a column shows what wider rows cost, along a "
    "row what a larger batch gains, panel to panel what larger tables cost."
)


def alt(records: Sequence[Record]) -> str:
    """The picture in words."""
    return heatmap.alt(records, "dim", "rows")


def draw(records: Sequence[Record], machine: Machine) -> Figure | None:
    """None where dim and batch size do not both vary."""
    return heatmap.draw(records, machine, "dim", "rows")
