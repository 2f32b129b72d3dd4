"""Plots of a whole run, trials included: TITLE, CAPTION, alt(run), draw(run) -> Figure or None. File name = id."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.run import Run


class RunPlot(Protocol):
    """What a module in this folder provides. `draw` gives None where the run does not hold what it shows."""

    TITLE: str
    CAPTION: str

    def alt(self, run: Run) -> str:
        """The picture in words."""

    def draw(self, run: Run) -> Figure | None:
        """The picture, in the look that style.using() set."""


def names() -> list[str]:
    """Ids of all plots."""
    return sorted({p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_")})


def load(name: str) -> RunPlot:
    """One plot. KeyError names the known ones."""
    if name not in names():
        raise KeyError(f"no plot {name!r}; known: {', '.join(names())}")
    return cast("RunPlot", importlib.import_module(f"bench.sections.plots.{name}"))
