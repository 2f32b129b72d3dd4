"""Quality against cost: each model over its seeds, the gap to Bayes, the Pareto frontier, paired differences. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from bench.records import QualityTrial
from bench.study.scaling import CONFIDENCE, t_quantile, variant_name
from workloads.click_log import ClickLogSpec
from workloads.spec import ModelSpec, num_features

MATCH_TOLERANCE = 0.05
"""A model with at least 95 % of another's cost counts as having had as much."""


class Estimate(NamedTuple):
    """A mean over seeds and its t-interval; without ends where one seed says nothing of the scatter."""

    value: float
    low: float
    high: float
    seeds: int

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.high - self.low)


def estimate(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Mean and t-interval of independent values (seeds)."""
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return Estimate(mean, -math.inf, math.inf, count)
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (count - 1))
    reach = t_quantile(confidence, count - 1) * deviation / math.sqrt(count)
    return Estimate(mean, mean - reach, mean + reach, count)


class Task(NamedTuple):
    """What a model learned from: only models of the same one can be compared.

    `click_log` is None in trials that did not record it. `train_samples` is how many samples of the log were seen.
    """

    kind: str
    features: int
    click_log: ClickLogSpec | None
    train_samples: int

    @property
    def words(self) -> str:
        """Kind and number of features."""
        return f"{self.kind} log, {self.features} features"

    @property
    def details(self) -> dict[str, object]:
        """Everything else by field; None where it was not recorded."""
        fields = [f for f in ClickLogSpec.__struct_fields__ if f not in ("kind", "num_features")]
        log: dict[str, object] = {field: getattr(self.click_log, field, None) for field in fields}
        return log | {"train_samples": self.train_samples}


class Learned(NamedTuple):
    """One model on one task over all its seeds."""

    task: Task
    variant: str
    model: ModelSpec
    budget_flops: float | None
    trials: tuple[QualityTrial, ...]

    @property
    def log(self) -> str:
        """Kind of the log: planted or control."""
        return self.task.kind

    @property
    def name(self) -> str:
        """dlrm at 20 kFLOP; the budget only where the model was sized for one."""
        return f"{self.variant} at {self.budget_flops / 1e3:g} kFLOP" if self.budget_flops else self.variant

    @property
    def flops(self) -> float:
        """Forward FLOPs per sample."""
        return self.trials[0].flops_per_sample_forward

    @property
    def params(self) -> float:
        """Parameters."""
        return float(self.trials[0].params)

    @property
    def train_s(self) -> float:
        """Mean seconds of training up to the last point."""
        return math.fsum(t.curve[-1].train_s for t in self.trials) / len(self.trials)

    @property
    def log_loss(self) -> Estimate:
        """Log loss on held-out samples after training."""
        return estimate([t.curve[-1].log_loss for t in self.trials])

    @property
    def auc(self) -> Estimate:
        """Area under the ROC curve on held-out samples after training."""
        return estimate([t.curve[-1].auc for t in self.trials])

    @property
    def gap(self) -> Estimate | None:
        """Log loss above that of the true probabilities on the same samples; None where Bayes is unknown."""
        gaps = [t.curve[-1].log_loss - t.bayes_log_loss for t in self.trials if t.bayes_log_loss is not None]
        return estimate(gaps) if len(gaps) == len(self.trials) else None

    @property
    def loss(self) -> Estimate:
        """What models of one log are ranked by: the gap to Bayes, which has no luck of the samples in it; log loss
        where Bayes is unknown."""
        return self.gap or self.log_loss

    @property
    def prior_gap(self) -> float | None:
        """What there is to learn: log loss of always predicting the base rate, above Bayes."""
        found = [
            t.prior_log_loss - t.bayes_log_loss
            for t in self.trials
            if t.prior_log_loss is not None and t.bayes_log_loss is not None
        ]
        return math.fsum(found) / len(found) if found else None


class Cost(NamedTuple):
    """What quality is set against: id, words, unit, value."""

    name: str
    title: str
    unit: str
    of: Callable[[Learned], float]


COSTS = (
    Cost("flops", "forward FLOPs per sample", "FLOP", lambda m: m.flops),
    Cost("params", "parameters", "", lambda m: m.params),
    Cost("train_s", "training time", "s", lambda m: m.train_s),
)


def learned(trials: Sequence[QualityTrial]) -> list[Learned]:
    """Trials that ended well by task, model and budget, in order of appearance."""
    groups: dict[tuple[Task, ModelSpec, float | None], dict[int, QualityTrial]] = {}
    for trial in trials:
        if trial.outcome.status == "ok" and trial.curve:
            task = Task(trial.log, num_features(trial.model), trial.click_log, trial.curve[-1].samples)
            groups.setdefault((task, trial.model, trial.budget_flops), {})[trial.seed] = trial
    return [
        Learned(task, variant_name(model), model, budget, tuple(by_seed.values()))
        for (task, model, budget), by_seed in groups.items()
    ]


def rate_at_edge(trial: QualityTrial) -> bool:
    """Whether validation chose the least or the largest learning rate tried: beyond it may be a better one."""
    tried = [one.learning_rate for one in trial.rates]
    return bool(tried) and trial.learning_rate in (min(tried), max(tried))


def by_task(models: Sequence[Learned]) -> dict[str, list[Learned]]:
    """Models by the title of what they learned from, in order of appearance."""
    found: dict[Task, list[Learned]] = {}
    for model in models:
        found.setdefault(model.task, []).append(model)
    return {title(task, list(found)): alike for task, alike in found.items()}


def title(task: Task, among: Sequence[Task]) -> str:
    """The task in words, with the fields in which those of the same kind and number of features differ."""
    alike = [other.details for other in among if other.words == task.words]
    apart = [name for name in task.details if len({details[name] for details in alike}) > 1]
    return ", ".join([task.words, *(_detail(name, task.details[name]) for name in apart)])


_WORDS = {"num_dense": "dense features", "num_rows": "rows", "indices": "index law", "train_samples": "trained samples"}


def _detail(name: str, value: object) -> str:
    """One field: pair share 0.5."""
    text = "unknown"
    if isinstance(value, float):
        text = f"{value:g}"
    elif isinstance(value, int):
        text = f"{value:,}"
    elif value is not None:
        text = str(value)
    return f"{_WORDS.get(name, name.replace('_', ' '))} {text}"


def frontier(models: Sequence[Learned], cost: Cost) -> list[Learned]:
    """The models of one log that no other one beats in both cost and mean loss, cheapest first."""
    found: list[Learned] = []
    for model in sorted(models, key=lambda m: (cost.of(m), m.loss.value)):
        if not found or model.loss.value < found[-1].loss.value:
            found.append(model)
    return found


def match(model: Learned, others: Sequence[Learned], cost: Cost) -> Learned | None:
    """The best of `others` on the model's log among those of the least cost that is at least its own (within 5 %).

    None where all of them are cheaper: then what they would do with as much was not measured.
    """
    enough = [o for o in others if o.task == model.task and cost.of(o) >= (1 - MATCH_TOLERANCE) * cost.of(model)]
    if not enough:
        return None
    least = min(cost.of(o) for o in enough)
    return min((o for o in enough if cost.of(o) <= (1 + MATCH_TOLERANCE) * least), key=lambda o: o.loss.value)


def paired(model: Learned, other: Learned) -> dict[int, float]:
    """Log loss of `model` minus that of `other` by seed, where both have it; below 0 `model` is better.

    A seed fixes the log, the split and the initial weights, so that the pair shares their luck.
    """
    theirs = {t.seed: t.curve[-1].log_loss for t in other.trials}
    return {t.seed: t.curve[-1].log_loss - theirs[t.seed] for t in model.trials if t.seed in theirs}


def difference(model: Learned, other: Learned, confidence: float = CONFIDENCE) -> Estimate | None:
    """The mean of the paired differences; None without shared seeds."""
    pairs = paired(model, other)
    return estimate(list(pairs.values()), confidence) if pairs else None


def on_control(model: Learned, models: Sequence[Learned]) -> Learned | None:
    """The same model on the control of its log, which differs from it in its kind alone; None where there is none."""
    log = model.task.click_log
    task = model.task._replace(kind="control", click_log=log and msgspec.structs.replace(log, kind="control"))
    wanted = (task, model.model, model.budget_flops)
    return next((m for m in models if (m.task, m.model, m.budget_flops) == wanted), None)
