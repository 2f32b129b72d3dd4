"""One look for every plot: two themes, two widths, engineering ticks, lean and reproducible SVG."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from bench.records import Record
from bench.reporting.format import capacity
from bench.reporting.labels import Value, fit, fit_apart, held, values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOT_XML = r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]"
"""Characters that no XML may have; a picture with one of them in a name would not be shown."""
Item = TypeVar("Item")
Theme = Literal["light", "dark"]
Width = Literal["wide", "narrow"]
THEMES: tuple[Theme, ...] = ("light", "dark")
WIDTHS: tuple[Width, ...] = ("wide", "narrow")

MAX_ROWS = 60
"""Cases that a plot with one row per case shows."""
MAX_MARKED = 200
"""Cases that a plot with marks of every case shows."""
MAX_LINES = 8
"""Values of an axis that are told apart by colour, or stand side by side."""
SVG_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"


class Palette(NamedTuple):
    """Colours of a theme."""

    background: str
    text: str
    muted: str
    grid: str
    series: tuple[str, ...]
    heat: str


class Look(NamedTuple):
    """The look in force: palette and width."""

    theme: Theme
    width: Width
    palette: Palette

    @property
    def narrow(self) -> bool:
        """Whether the picture is for a phone."""
        return self.width == "narrow"

    @property
    def inches(self) -> float:
        """Width of the figure; 72 points to the inch."""
        return 3.7 if self.narrow else 9.4


PALETTES: dict[Theme, Palette] = {
    "light": Palette(
        background="#ffffff",
        text="#1c2430",
        muted="#5d6878",
        grid="#e3e7ee",
        series=("#0b6fb8", "#d1570a", "#0a8f68", "#b3539a", "#a37b00", "#5a54c9", "#6b7280", "#1798a8"),
        heat="crest",
    ),
    "dark": Palette(
        background="#151a23",
        text="#e7ebf2",
        muted="#a2acbb",
        grid="#2b3341",
        series=("#5ab2f2", "#f58f4a", "#3fcf9f", "#e29bd0", "#e0bd4b", "#a5a0f7", "#a0a8b5", "#63d0df"),
        heat="crest_r",
    ),
}
STAGE_ORDER = ("embedding", "bottom_mlp", "interaction", "top_mlp", "loss", "optimizer")

DEFAULT = Look("light", "wide", PALETTES["light"])
_current: ContextVar[Look] = ContextVar("look", default=DEFAULT)


def look() -> Look:
    """The look in force."""
    return _current.get()


@contextmanager
def using(theme: Theme, width: Width) -> Iterator[Look]:
    """Draw in this look: palette, sizes and matplotlib's settings, put back afterwards."""
    import matplotlib as mpl

    chosen = Look(theme, width, PALETTES[theme])
    token = _current.set(chosen)
    try:
        with mpl.rc_context(_settings(chosen)):
            yield chosen
    finally:
        _current.reset(token)


def _settings(chosen: Look) -> Any:
    palette = chosen.palette
    size = 8.4 if chosen.narrow else 9.4
    return {
        "font.family": "DejaVu Sans",
        "font.size": size,
        "axes.titlesize": size,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": size,
        "axes.labelcolor": palette.muted,
        "axes.edgecolor": palette.grid,
        "axes.facecolor": palette.background,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": palette.grid,
        "grid.linewidth": 0.8,
        "figure.facecolor": palette.background,
        "savefig.facecolor": palette.background,
        "text.color": palette.text,
        "xtick.color": palette.grid,
        "ytick.color": palette.grid,
        "xtick.labelcolor": palette.muted,
        "ytick.labelcolor": palette.muted,
        "xtick.labelsize": size - 0.6,
        "ytick.labelsize": size - 0.6,
        "legend.frameon": False,
        "legend.fontsize": size - 0.4,
        "legend.labelcolor": palette.text,
        "legend.handlelength": 1.4,
        "legend.columnspacing": 1.2,
        "lines.linewidth": 1.8,
        "lines.markersize": 5,
        "hatch.linewidth": 1.1,
        "svg.fonttype": "none",
        "text.parse_math": False,
        "svg.hashsalt": "dlrm-bench",
    }


def figure(
    height_in: float, *, rows: int = 1, cols: int = 1, sharex: bool = False, sharey: bool = False, **grid: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of the look's width and its axes, row by row. No global state is touched."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(look().inches, height_in), layout="constrained")
    axes = made.subplots(rows, cols, squeeze=False, sharex=sharex, sharey=sharey, gridspec_kw=grid or None)
    return made, list(axes.flat)


def panels(count: int, height_in: float, *, most: int = 3, sharey: bool = True) -> tuple[Figure, list[Axes]]:
    """`count` panels, up to `most` side by side, or below each other on a phone; unused ones are taken out."""
    cols = 1 if look().narrow else min(count, most)
    rows = -(-count // cols)
    made, axes = figure(height_in * rows, rows=rows, cols=cols, sharey=sharey)
    for extra in axes[count:]:
        extra.remove()
    return made, axes[:count]


def color(index: int) -> str:
    """Colour of the n-th series."""
    series = look().palette.series
    return series[index % len(series)]


def axis_color(records: Sequence[Record], axis: str, value: Value) -> str:
    """A value of an axis has the same colour in every panel and plot drawn from these records."""
    return color(sorted(values(records, axis), key=lambda v: (isinstance(v, str), v)).index(value))


def stage_color(name: str) -> str:
    """A stage has the same colour everywhere; what is no stage is grey."""
    return color(STAGE_ORDER.index(name)) if name in STAGE_ORDER else look().palette.muted


def ticks(axis: Any, text: Callable[[float], str]) -> None:
    """Label an axis's ticks with a formatting function."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axis.set_minor_formatter(NullFormatter())


_MANTISSAS = (
    (1.0,),
    (1.0, 3.0),
    (1.0, 2.0, 5.0),
    (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    tuple(i / 10 for i in range(10, 100)),
)


def log_ticks(axis: Any, text: Callable[[float], str], low: float, high: float) -> None:
    """Ticks of a log axis from `low` to `high`: as many round numbers of each decade as stay readable."""
    exact_ticks(axis, round_numbers(low, high, 4 if look().narrow else 6), text)


def round_numbers(low: float, high: float, most: int) -> list[float]:
    """At most `most` numbers from `low` to `high`, of the finest set of mantissas that gives so few; else decades."""
    sets = [_rounds(low, high, mantissas) for mantissas in _MANTISSAS]
    fitting = [found for found in sets if len(found) <= most]
    if fitting:
        return fitting[-1]
    every = -(-len(sets[0]) // most)
    return sets[0][::every]


def _rounds(low: float, high: float, mantissas: Sequence[float]) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    return [value for decade in decades for m in mantissas if low <= (value := m * 10.0**decade) <= high]


def spaced(values: Sequence[float], factor: float) -> list[float]:
    """Values that are at least `factor` times the one before, so that their names do not touch on a log axis."""
    kept: list[float] = []
    for value in values:
        if not kept or value >= factor * kept[-1]:
            kept.append(value)
    return kept


def exact_ticks(axis: Any, values: Sequence[float], text: Callable[[float], str]) -> None:
    """Ticks at these values only."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axis.set_major_locator(FixedLocator(list(values)))
    axis.set_minor_locator(NullLocator())
    ticks(axis, text)


def mark_size(ax: Axes, name: str, size_bytes: int) -> None:
    """A dashed line at a size on the x axis, named at its top: a cache, for instance."""
    mark(ax, size_bytes, f"{name} {capacity(size_bytes)}", (0.97, "top"), "left", (3, 0))


def mark(ax: Axes, at: float, text: str, height: tuple[float, str], side: str, offset_pt: tuple[float, float]) -> None:
    """A dashed line at a value of the x axis, named at a height (share of the axes, and what of the text is there)."""
    muted = look().palette.muted
    ax.axvline(at, color=muted, linestyle=(0, (4, 3)), linewidth=1)
    ax.annotate(
        text,
        (at, height[0]),
        xycoords=("data", "axes fraction"),
        xytext=offset_pt,
        textcoords="offset points",
        ha=side,
        va=height[1],
        fontsize=7.6,
        color=muted,
    )


def case_rows(ax: Axes, names: Sequence[str]) -> None:
    """One row per case from the top: its name beside it, or above it on a phone."""
    ax.set_ylim(len(names) - 0.4, -0.75 if look().narrow else -0.6)
    ax.grid(visible=False, axis="y")
    if look().narrow:
        ax.set_yticks([])
        for row, text in enumerate(fit_apart(names, 50)):
            behind = {"facecolor": look().palette.background, "edgecolor": "none", "pad": 0.6}
            at = (0, row - 0.36)
            made = ax.annotate(text, at, xycoords=("axes fraction", "data"), va="center", fontsize=7.4, bbox=behind)
            made.set_in_layout(False)
        return
    ax.set_yticks(range(len(names)), labels=fit_apart(names, 52))
    ax.tick_params(axis="y", length=0, labelcolor=look().palette.text)


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly spread, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def say_rest(ax: Axes, shown: int, every: int, which: str = "the first") -> None:
    """Say that a plot does not show every case, where that is so."""
    if shown < every:
        ax.set_title(f"{which} {shown} of {every} cases")


def with_held(text: str, records: Sequence[Record], group: Sequence[Record]) -> str:
    """An axis label, and below it which part of the run the panel shows."""
    part = fit(held(records, group), 30)
    return f"{text}\n{part}" if part else text


def rows_height(count: int) -> float:
    """Height in inches of a plot with one row per case."""
    return 1.1 + count * (0.36 if look().narrow else 0.23)


def measured(records: Sequence[Record]) -> list[Record]:
    """The records that hold times of a case that ended well."""
    return [r for r in records if r.outcome.status == "ok" and r.measurement and r.measurement.times_s]


def legend(made: Figure, handles: Sequence[Any], *, cols: int = 6) -> None:
    """One legend above the axes, in as many columns as fit."""
    made.legend(
        handles=list(handles),
        loc="outside upper left",
        ncols=min(len(handles), 2 if look().narrow else cols),
    )


def to_svg(made: Figure) -> str:
    """The figure as SVG: text as text in the reader's own font, no date, the same bytes for the same data."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Only widths are taken from this font; what it lacks, the reader's own may have.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        made.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _lean(buffer.getvalue())


def _lean(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"'DejaVu Sans'(?:, [\w' -]+)*", SVG_FONTS, svg)
    # Coordinates only: what is written between the tags is for reading.
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d+\.\d{2})\d+", r"\1", tag[0]), svg)
    return re.sub(r">\s+<", "><", re.sub(NOT_XML, "", svg))
