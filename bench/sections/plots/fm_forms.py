"""The second-order sum of a factorization machine in both forms: time and FLOPs per sample, with fitted exponents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.plots import style
from bench.reporting.format import count, seconds
from bench.run import Run
from bench.study.scaling import BY_NAME, Series, both_forms, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "One sum, two forms"
CAPTION = (
    "Measured. The interaction of a factorization machine alone, per sample: every pair's inner product, or half of "
    "|sum v|² - sum |v|², which is the same number. Lines are the fits over the range they span; b is their exponent "
    "with its 95 % interval."
)


def forms(run: Run) -> list[Series]:
    """Both forms, forward; empty unless both are there with times."""
    return list(both_forms(series(run.records)) or ())


def alt(run: Run) -> str:
    """The picture in words."""
    parts = [f"{s.variant} N^{law.exponent:.2f}" for s in forms(run) if (law := s.law("interaction_s"))]
    return f"Log-log plots of time and FLOPs of both forms of the second-order sum over N; time: {'; '.join(parts)}."


def draw(run: Run) -> Figure | None:
    """None unless both forms were traced."""
    found = forms(run)
    if not found:
        return None
    made, axes = style.panels(2, 3.1, sharey=False)
    for ax, quantity, text in zip(axes, ("interaction_s", "interaction_flops"), (seconds, count), strict=True):
        values = [v for index, s in enumerate(found) for v in _line(ax, index, s, quantity)]
        style.log_ticks(ax.yaxis, text, min(values), max(values))
        ax.set(title=BY_NAME[quantity].title, xlabel="features N")
        style.exact_ticks(ax.xaxis, style.spaced(found[0].sizes, 2), lambda v: f"{v:g}")
        ax.legend(loc="upper left")
        ax.set_ylim(min(values) / 2, max(values) * 12)
    return made


def _line(ax: Axes, index: int, one: Series, quantity: str) -> list[float]:
    points, law = one.points(quantity), one.law(quantity)
    sizes, values = zip(*points, strict=True)
    name = one.variant.removeprefix("fm, ")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    if law:
        name += f": b = {law.exponent:.2f} [{law.low:.2f}, {law.high:.2f}]"
        ends = [law.least, law.most]
        ax.plot(ends, [law.at(n) for n in ends], color=style.color(index), linewidth=1.2)
    ax.plot(sizes, values, marker="os"[index], linestyle="", color=style.color(index), label=name)
    return list(values)
