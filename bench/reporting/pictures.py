"""Drawings in both themes and widths, as pictures that a page can hold."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bench.records import Record
from bench.reporting.aside import aside
from profiles.machine import Machine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.plots.style import Theme, Width
    from bench.run import Run
    from bench.sections import Section


class Source(NamedTuple):
    """One variant of a picture: when to use it, its data URI and its size in CSS pixels."""

    media: str
    uri: str
    width: int
    height: int


class Picture(NamedTuple):
    """A plot in all its variants; the last source is the default."""

    name: str
    title: str
    alt: str
    caption: str
    sources: tuple[Source, ...]


THEMES: tuple[Theme, ...] = ("dark", "light")
VARIANTS: tuple[tuple[Theme, Width, str], ...] = (
    ("dark", "narrow", "(max-width: 600px) and (prefers-color-scheme: dark)"),
    ("light", "narrow", "(max-width: 600px)"),
    ("dark", "wide", "(prefers-color-scheme: dark)"),
    ("light", "wide", ""),
)
Draw = Callable[[], "Figure | None"]
Svgs = dict[str, dict[str, str]]
"""By plot and theme."""


class Drawing(NamedTuple):
    """A plot that may be drawn: its words, and a function that gives None where there is nothing to show."""

    name: str
    title: str
    caption: str
    alt: Callable[[], str]
    draw: Draw


def draw_pictures(records: Sequence[Record], machine: Machine) -> list[Picture]:
    """Every plot that these records can fill, in both themes and widths."""
    from bench import plots

    loaded = {name: plots.load(name) for name in plots.names()}
    return drawn(
        [
            Drawing(name, plot.TITLE, plot.CAPTION, partial(plot.alt, records), partial(plot.draw, records, machine))
            for name, plot in loaded.items()
        ]
    )


def draw_section_pictures(run: Run, made: Sequence[Section]) -> list[Picture]:
    """Every plot that the sections ask for and that the run can fill."""
    from bench.sections import plots

    names = dict.fromkeys(name for section in made for name in section.plots)
    loaded = {name: plots.load(name) for name in names}
    return drawn(
        [
            Drawing(name, plot.TITLE, plot.CAPTION, partial(plot.alt, run), partial(plot.draw, run))
            for name, plot in loaded.items()
        ]
    )


def drawn(drawings: Sequence[Drawing]) -> list[Picture]:
    """Those with something to show, in both themes and widths."""
    sources = _sources({d.name: d.draw for d in drawings})
    return [Picture(d.name, d.title, d.alt(), d.caption, sources[d.name]) for d in drawings if d.name in sources]


def _sources(draws: Mapping[str, Draw]) -> dict[str, tuple[Source, ...]]:
    """All variants of each plot that has something to show; the narrow ones are drawn beside the wide ones."""
    if not draws:
        return {}
    import matplotlib.figure  # noqa: F401 (before the fork, so that it is read once)

    narrow = aside(lambda: msgspec.json.encode(_drawn(draws, "narrow")))
    by_width: dict[Width, Svgs] = {"wide": _drawn(draws, "wide")}
    by_width["narrow"] = msgspec.json.decode(narrow(), type=Svgs)
    return {
        name: tuple(_source(by_width[width][name][theme], media) for theme, width, media in VARIANTS)
        for name in by_width["wide"]
    }


def _drawn(draws: Mapping[str, Draw], width: Width) -> Svgs:
    from bench.plots import style

    found: Svgs = {}
    for name, draw in draws.items():
        for theme in THEMES:
            with style.using(theme, width):
                figure = draw()
                if figure is None:
                    break
                found.setdefault(name, {})[theme] = style.to_svg(figure)
    return found


def _source(svg: str, media: str) -> Source:
    sizes = re.findall(r'(?:width|height)="([\d.]+)pt"', svg[:400])
    width, height = (round(float(s) * 4 / 3) for s in sizes[:2])
    uri = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    return Source(media, uri, width, height)
