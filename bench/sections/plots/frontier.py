"""Log loss against FLOPs, parameters and seconds of training, per log: points, intervals, frontier, Bayes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.plots import style
from bench.report_format import count, seconds
from bench.run import Run
from bench.study.frontier import COSTS, Cost, Learned, frontier, learned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Quality against cost"
CAPTION = (
    "Log loss on held-out samples (lower is better), mean over seeds with its 95 % t-interval, against what the model "
    "costs. The grey line joins the models that none is both cheaper and better than. Dashed: Bayes, what the true "
    "probabilities reach; dotted, where it lies in the range: always predicting the base rate."
)
MARKERS = "osD^v<>pPX*h"


def alt(run: Run) -> str:
    """The picture in words."""
    models = learned(run.trials)
    parts = []
    for log in dict.fromkeys(m.log for m in models):
        best = min((m for m in models if m.log == log), key=lambda m: m.log_loss.value)
        parts.append(f"{log} log: least log loss {best.log_loss.value:.4f} by {best.name}")
    return f"Scatter plots of log loss against FLOPs, parameters and training time. {'; '.join(parts)}."


def draw(run: Run) -> Figure | None:
    """None without trials that ended well. One row of panels per log."""
    models = learned(run.trials)
    logs = list(dict.fromkeys(m.log for m in models))
    if not models:
        return None
    made, axes = style.panels(len(logs) * len(COSTS), 3.0, most=len(COSTS), sharey=False)
    variants = list(dict.fromkeys(m.variant for m in models))
    places = [(log, cost) for log in logs for cost in COSTS]
    for ax, (log, cost) in zip(axes, places, strict=True):
        _panel(ax, [m for m in models if m.log == log], cost, variants)
        ax.set(title=f"{log} log", xlabel=cost.title, ylabel="log loss")
    style.legend(made, [_handle(i, v) for i, v in enumerate(variants)], cols=5)
    return made


def _handle(index: int, variant: str) -> object:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=style.color(index), marker=MARKERS[index % len(MARKERS)], linestyle="", label=variant)


def _panel(ax: Axes, models: Sequence[Learned], cost: Cost, variants: Sequence[str]) -> None:
    muted = style.look().palette.muted
    best = frontier(models, cost)
    ax.set_xscale("log")
    ax.plot([cost.of(m) for m in best], [m.log_loss.value for m in best], color=muted, linewidth=1, zorder=1)
    for model in models:
        index, loss = variants.index(model.variant), model.log_loss
        reach = [[loss.value - loss.low], [loss.high - loss.value]] if loss.known else None
        ax.errorbar(
            cost.of(model),
            loss.value,
            yerr=reach,
            color=style.color(index),
            marker=MARKERS[index % len(MARKERS)],
            markersize=4.5,
            linestyle="",
            capsize=2,
            linewidth=1,
        )
    _levels(ax, models)
    costs = [cost.of(m) for m in models]
    ax.set_xlim(min(costs) / 1.4, max(costs) * 1.4)
    text = seconds if cost.unit == "s" else count
    style.log_ticks(ax.xaxis, text, min(costs) / 1.4, max(costs) * 1.4)
    ax.locator_params(axis="y", nbins=5)


def _levels(ax: Axes, models: Sequence[Learned]) -> None:
    """The range that holds every model and Bayes; the base rate only where it lies within."""
    trials = [t for m in models for t in m.trials]
    bayes = _mean([t.bayes_log_loss for t in trials])
    prior = _mean([t.prior_log_loss for t in trials])
    ends = [e for m in models for e in (m.log_loss.value, m.log_loss.low, m.log_loss.high) if math.isfinite(e)]
    low, high = min([*ends, *([bayes] if bayes else [])]), max(ends)
    margin = 0.06 * (high - low) or 0.01
    ax.set_ylim(low - margin, high + margin)
    for level, line in ((bayes, "--"), (prior, ":")):
        if level and low <= level <= high:
            ax.axhline(level, color=style.look().palette.text, linestyle=line, linewidth=1, zorder=1)


def _mean(levels: Sequence[float | None]) -> float | None:
    known = [level for level in levels if level is not None]
    return math.fsum(known) / len(known) if known else None
