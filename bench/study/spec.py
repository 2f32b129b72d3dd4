"""The [quality] table of a sweep: which models learn which synthetic click logs, and how. From it to Trials, purely."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from workloads.click_log import ClickLogSpec, Kind
from workloads.spec import ModelSpec, SpecError, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence


class Training(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How every model is trained: Adam, in one pass over samples that never repeat, its rate falling linearly to 0.

    `learning_rates` are trained in full from the middle one outwards, until one on either side of the best is worse
    (`rates.next_rate`); that with the least log loss on `validation_samples` of their own is evaluated on
    `test_samples`, at `evaluations` points evenly spread. `num_threads` 0 is every CPU the process may use. Samples
    are rounded to whole batches. Raises SpecError.
    """

    learning_rates: tuple[float, ...] = (0.005, 0.01, 0.02, 0.04)
    train_samples: int = 400_000
    validation_samples: int = 32_768
    test_samples: int = 65_536
    batch_size: int = 1024
    evaluations: int = 4
    num_threads: int = 0

    def __post_init__(self) -> None:
        if not self.learning_rates or not all(0 < rate < math.inf for rate in self.learning_rates):
            raise SpecError("learning_rates", list(self.learning_rates), "at least one number above 0")
        for field, low, high in (
            ("batch_size", 1, 1_048_576),
            ("num_threads", 0, 4096),
            ("evaluations", 1, 1000),
            ("validation_samples", 1, 10_000_000),
            ("test_samples", 1, 10_000_000),
            ("train_samples", self.batch_size * self.evaluations, 1_000_000_000),
        ):
            value = getattr(self, field)
            if not low <= value <= high:
                raise SpecError(field, value, f"a whole number from {low} to {high}")


class Comparison(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models on the logs of one ClickLogSpec, planted and control.

    Each of `variants` whose size is free appears once per budget (forward FLOPs per sample), the others once. `dim` is
    the width of a table's row in all of them; in the factorization family it holds the first-order weight too.
    `train_samples` overrules the training's. Raises SpecError.
    """

    log: ClickLogSpec
    variants: tuple[str, ...]
    dim: int = 16
    budgets: tuple[float, ...] = ()
    train_samples: int | None = None

    def __post_init__(self) -> None:
        from bench.study.sizing import SIZED, VARIANTS

        for name in self.variants:
            if name not in VARIANTS:
                raise unknown("variants", name, list(VARIANTS))
        if not self.variants:
            raise SpecError("variants", [], f"at least one of {', '.join(VARIANTS)}")
        sized = [name for name in self.variants if name in SIZED]
        if sized and not self.budgets:
            raise SpecError(
                "budgets", [], f"at least one number of forward FLOPs per sample, to size {', '.join(sized)} by"
            )
        if not all(budget > 0 for budget in self.budgets):
            raise SpecError("budgets", list(self.budgets), "numbers above 0")


class Quality(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Trials of all comparisons: every model on every kind of log, from every seed.

    A seed names the truth, the samples, the tables' and the layers' first values. Raises SpecError.
    """

    comparison: tuple[Comparison, ...]
    logs: tuple[Kind, ...] = ("planted", "control")
    seeds: tuple[int, ...] = (0, 1, 2)
    training: Training = Training()

    def __post_init__(self) -> None:
        for field, values in (("comparison", self.comparison), ("logs", self.logs), ("seeds", self.seeds)):
            if not values:
                raise SpecError(field, [], "at least one")
        if not all(0 <= seed < 2**32 for seed in self.seeds):
            raise SpecError("seeds", list(self.seeds), "whole numbers from 0 to 4294967295")


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One model to be trained on one log from one seed; `budget_flops` None where its size follows from the log."""

    log: ClickLogSpec
    model: ModelSpec
    seed: int
    budget_flops: float | None
    training: Training

    def key(self) -> str:
        """Identity of the trial: readable words and a hash of every field."""
        digest = hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()[:8]
        size = "own" if self.budget_flops is None else f"{self.budget_flops:g}"
        return f"{self.log.kind}-{self.model.name}-{size}-s{self.seed}-{digest}"


def trials(quality: Quality) -> tuple[Trial, ...]:
    """All trials in order, each once; the seeds of one model follow each other. Raises SpecError."""
    found: dict[str, Trial] = {}
    for number, comparison in enumerate(quality.comparison, 1):
        try:
            made = list(_trials(quality, comparison))
        except SpecError as error:
            raise SpecError(
                error.field, error.value, error.allowed, error.where or f"quality, comparison {number}"
            ) from None
        found |= {trial.key(): trial for trial in made}
    return tuple(found.values())


def _trials(quality: Quality, comparison: Comparison) -> Iterator[Trial]:
    training = quality.training
    if comparison.train_samples is not None:
        training = msgspec.structs.replace(training, train_samples=comparison.train_samples)
    models = list(_models(comparison))
    for kind in quality.logs:
        log = msgspec.structs.replace(comparison.log, kind=kind)
        for model, budget in models:
            for seed in quality.seeds:
                yield Trial(log=log, model=model, seed=seed, budget_flops=budget, training=training)


def _models(comparison: Comparison) -> Iterator[tuple[ModelSpec, float | None]]:
    from bench.study.sizing import SIZED, sized_model

    for variant in comparison.variants:
        budgets: Sequence[float | None] = comparison.budgets if variant in SIZED else (None,)
        for budget in budgets:
            yield sized_model(variant, comparison.log, comparison.dim, budget), budget
