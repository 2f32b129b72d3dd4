"""What models learned against what they cost: log loss, gap to Bayes, the frontier."""

from __future__ import annotations

from bench.records import QualityTrial
from bench.reporting.cases import Cell, Column
from bench.reporting.format import MISSING, count, percent, seconds
from bench.run import Run
from bench.sections import Section, Table
from bench.study.frontier import COSTS, Estimate, Learned, by_task, frontier, learned, rate_at_edge


def section(run: Run) -> Section | None:
    """None without trials."""
    if not run.trials:
        return None
    models = learned(run.trials)
    return Section(
        "quality",
        "Quality against cost",
        text=(*_ended(run.trials), *_edges(run.trials)),
        tables=tuple(_table(task, found) for task, found in by_task(models).items()),
        plots=("frontier",),
        notes=(
            "Planted: clicks drawn from probabilities with pairwise interactions of known strength; control: from "
            "probabilities without any. Log loss and AUC are of held-out samples, as means over seeds with 95 % "
            "t-intervals; a dash where one seed says nothing of the scatter.",
            "Gap to Bayes: log loss above that of the true probabilities on the same samples, the least any model can "
            "expect. Its scatter is the models' own; that of log loss is mostly of the logs, one for each seed. "
            "Learned: how much of the gap between always predicting the base rate and Bayes is closed.",
            "On the frontier: no other model of that log is both cheaper and better by its mean; F by FLOPs, P by "
            "parameters, S by seconds of training.",
        ),
    )


def _ended(trials: tuple[QualityTrial, ...]) -> list[str]:
    """Trials that did not end well, told with their reasons."""
    bad = [t for t in trials if t.outcome.status != "ok"]
    reasons = list(dict.fromkeys(t.outcome.reason or t.outcome.status for t in bad))
    return [f"{len(bad)} of {len(trials)} trials did not end well: {'; '.join(reasons)}."] if bad else []


def _edges(trials: tuple[QualityTrial, ...]) -> list[str]:
    """Where the grid of learning rates ended too early to know, by variant."""
    chosen = [t for t in trials if t.rates and t.learning_rate is not None]
    at_edge = [t for t in chosen if rate_at_edge(t)]
    if not at_edge:
        return []
    tried = sorted({rate.learning_rate for t in at_edge for rate in t.rates})
    by_variant = [
        f"{variant} {sum(t.model.variant == variant for t in at_edge)} of "
        f"{sum(t.model.variant == variant for t in chosen)}"
        for variant in dict.fromkeys(t.model.variant for t in at_edge)
    ]
    return [
        f"In {len(at_edge)} of {len(chosen)} trials validation chose the least or the largest learning rate tried (of "
        f"{', '.join(f'{rate:g}' for rate in tried)}), so that a better one may lie beyond: {', '.join(by_variant)}."
    ]


def _table(task: str, models: list[Learned]) -> Table:
    titles = ("Seeds", "FLOPs/sample", "Parameters", "Training", "Log loss", "Gap to Bayes", "Learned", "AUC")
    columns = (Column("Model", kind="text"), *(Column(t) for t in titles), Column("On the frontier", kind="text"))
    best = {cost.name: frontier(models, cost) for cost in COSTS}
    ordered = sorted(models, key=lambda m: m.loss.value)
    return Table(task.capitalize(), columns, tuple(_row(m, best) for m in ordered))


def _row(model: Learned, best: dict[str, list[Learned]]) -> tuple[Cell, ...]:
    gap = model.gap
    on = [letter for letter, cost in zip("FPS", COSTS, strict=True) if model in best[cost.name]]
    return (
        Cell(model.name),
        Cell(str(len(model.trials))),
        Cell(count(model.flops)),
        Cell(count(model.params)),
        Cell(seconds(model.train_s)),
        _estimate(model.log_loss),
        _estimate(gap) if gap else Cell(MISSING),
        Cell(_learned(model)),
        _estimate(model.auc),
        Cell(" ".join(on) or MISSING),
    )


def _estimate(found: Estimate) -> Cell:
    ends = f"{found.low:.4f} to {found.high:.4f}" if found.known else MISSING
    return Cell(f"{found.value:.4f}", ends, found.value)


def _learned(model: Learned) -> str:
    """Share of what there is to learn that was learned."""
    gap, prior = model.gap, model.prior_gap
    return percent(1 - gap.value / prior) if gap and prior and prior > 0 else MISSING
