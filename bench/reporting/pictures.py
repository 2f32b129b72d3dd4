"""Drawings in both themes and widths, as pictures that a page can hold."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from bench.records import Record
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


VARIANTS: tuple[tuple[Theme, Width, str], ...] = (
    ("dark", "narrow", "(max-width: 600px) and (prefers-color-scheme: dark)"),
    ("light", "narrow", "(max-width: 600px)"),
    ("dark", "wide", "(prefers-color-scheme: dark)"),
    ("light", "wide", ""),
)


def draw_pictures(records: Sequence[Record], machine: Machine) -> list[Picture]:
    """Every plot that these records can fill, in both themes and widths."""
    from bench import plots

    pictures = []
    for name in plots.names():
        plot = plots.load(name)
        sources = _sources(partial(plot.draw, records, machine))
        if sources:
            pictures.append(Picture(name, plot.TITLE, plot.alt(records), plot.CAPTION, sources))
    return pictures


def draw_section_pictures(run: Run, made: Sequence[Section]) -> list[Picture]:
    """Every plot that the sections ask for and that the run can fill."""
    from bench.sections import plots

    pictures = []
    for name in dict.fromkeys(name for section in made for name in section.plots):
        plot = plots.load(name)
        sources = _sources(partial(plot.draw, run))
        if sources:
            pictures.append(Picture(name, plot.TITLE, plot.alt(run), plot.CAPTION, sources))
    return pictures


def _sources(draw: Callable[[], Figure | None]) -> tuple[Source, ...]:
    from bench.plots import style

    found = []
    for theme, width, media in VARIANTS:
        with style.using(theme, width):
            figure = draw()
            if figure is None:
                return ()
            found.append(_source(style.to_svg(figure), media))
    return tuple(found)


def _source(svg: str, media: str) -> Source:
    sizes = re.findall(r'(?:width|height)="([\d.]+)pt"', svg[:400])
    width, height = (round(float(s) * 4 / 3) for s in sizes[:2])
    uri = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    return Source(media, uri, width, height)
