"""Log loss against FLOPs, parameters and seconds of training, per log: points, intervals, frontier, Bayes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.plots import style
from bench.reporting.format import count, seconds
from bench.run import Run
from bench.study.frontier import COSTS, Cost, Learned, by_task, frontier, learned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Quality against cost"
CAPTION = (
    "Losses and training time are measured, FLOPs modelled. Log loss on held-out samples above Bayes, what the true "
    "probabilities reach on the same samples (lower is better; log loss itself where Bayes is unknown), mean over "
    "seeds with its 95 % t-interval, against what the model costs. The grey line joins the models that none is both "
    "cheaper and better than."
)
MARKERS = "osD^v<>pPX*h"


def alt(run: Run) -> str:
    """The picture in words."""
    parts = []
    for task, models in by_task(learned(run.trials)).items():
        best = min(models, key=lambda m: m.loss.value)
        parts.append(f"{task}: least log loss {best.log_loss.value:.4f} by {best.name}")
    return f"Scatter plots of log loss against FLOPs, parameters and training time. {'; '.join(parts)}."


def draw(run: Run) -> Figure | None:
    """None without trials that ended well. One row of panels per log."""
    models = learned(run.trials)
    if not models:
        return None
    tasks = by_task(models)
    made, axes = style.panels(len(tasks) * len(COSTS), 2.6, most=len(COSTS), sharey=False)
    variants = list(dict.fromkeys(m.variant for m in models))
    places = [(task, cost) for task in tasks for cost in COSTS]
    for ax, (task, cost) in zip(axes, places, strict=True):
        _panel(ax, tasks[task], cost, variants)
        known = all(m.gap for m in tasks[task])
        ax.set(title=task, xlabel=cost.title, ylabel="log loss above Bayes" if known else "log loss")
    style.legend(made, [_handle(i, v) for i, v in enumerate(variants)], cols=5)
    return made


def _handle(index: int, variant: str) -> object:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=style.color(index), marker=MARKERS[index % len(MARKERS)], linestyle="", label=variant)


def _panel(ax: Axes, models: Sequence[Learned], cost: Cost, variants: Sequence[str]) -> None:
    muted = style.look().palette.muted
    best = frontier(models, cost)
    ax.set_xscale("log")
    ax.plot([cost.of(m) for m in best], [m.loss.value for m in best], color=muted, linewidth=1, zorder=1)
    for model in models:
        index, loss = variants.index(model.variant), model.loss
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
    _limits(ax, models)
    costs = [cost.of(m) for m in models]
    ax.set_xlim(min(costs) / 1.4, max(costs) * 1.4)
    text = seconds if cost.unit == "s" else count
    style.log_ticks(ax.xaxis, text, min(costs) / 1.4, max(costs) * 1.4)
    ax.locator_params(axis="y", nbins=5)


def _limits(ax: Axes, models: Sequence[Learned]) -> None:
    """The range that holds every mean, and intervals as far as they do not dwarf the means; Bayes is 0."""
    means = [m.loss.value for m in models]
    low, high = min(0.0, *means) if all(m.gap for m in models) else min(means), max(means)
    margin = 0.15 * (high - low) or 0.01
    ax.set_ylim(low - margin / 3, high + margin)
