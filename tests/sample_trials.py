"""Made-up quality trials: what a run of several models, budgets, logs and seeds would look like. Seeded."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Literal

from bench.records import SCHEMA_VERSION, Outcome, QualityPoint, QualityTrial
from workloads.spec import ModelSpec, TableSpec

BAYES, PRIOR = 0.45, 0.62
BUDGETS = (5e3, 20e3, 80e3)
SEEDS = (0, 1, 2)
Log = Literal["planted", "control"]


def spec(variant: str, width: int = 16) -> ModelSpec:
    """A small model of this variant; `width` tells budgets apart."""
    dim = 9 if variant in ("fm", "deepfm") else 8
    tables = tuple(TableSpec(name=f"t{i}", num_rows=50, dim=dim) for i in range(6))
    return ModelSpec(
        name=variant,
        variant=variant,
        tables=tables,
        num_dense=4 if variant in ("dlrm", "dlrm_cat") else 0,
        bottom_mlp=(8,) if variant in ("dlrm", "dlrm_cat") else (),
        top_mlp=() if variant == "fm" else (width, 1),
    )


def trial(
    variant: str,
    log_loss: float,
    *,
    log: Log = "planted",
    seed: int = 0,
    budget: float | None = 20e3,
    flops: float | None = None,
    train_s: float = 5.0,
    width: int = 16,
) -> QualityTrial:
    """One trial that ended at `log_loss`, half of the way there after half of the samples."""
    half = (PRIOR + log_loss) / 2
    return QualityTrial(
        schema_version=SCHEMA_VERSION,
        key=f"{variant}-{log}-{budget}-{seed}",
        log=log,
        model=spec(variant, width),
        seed=seed,
        budget_flops=budget,
        outcome=Outcome(status="ok"),
        params=round((flops or budget or 1e3) / 2) + 3000,
        flops_per_sample_forward=flops or budget or 1e3,
        bayes_log_loss=BAYES,
        bayes_auc=0.86,
        prior_log_loss=PRIOR,
        curve=(
            QualityPoint(samples=50_000, train_s=train_s / 2, log_loss=half, auc=0.65),
            QualityPoint(samples=100_000, train_s=train_s, log_loss=log_loss, auc=1.3 - log_loss),
        ),
    )


def trials(
    planted: Mapping[str, float],
    control: Mapping[str, float],
    *,
    scatter: float = 0.0005,
    seeds: Sequence[int] = SEEDS,
    budgets: Sequence[float] = BUDGETS,
) -> list[QualityTrial]:
    """Every variant on both logs: its log loss at the least budget, a bit less with more; a seed's luck is shared."""
    random_ = random.Random(7)
    luck = {seed: random_.gauss(0, 10 * scatter) for seed in seeds}
    return [
        trial(
            variant,
            loss - 0.004 * number + luck[seed] + random_.gauss(0, scatter),
            log=log,
            seed=seed,
            budget=budget,
            flops=budget * random_.uniform(0.97, 1.0),
            width=16 * 2**number,
            train_s=4 + 2 * number + random_.random(),
        )
        for log, losses in (("planted", planted), ("control", control))
        for variant, loss in losses.items()
        for number, budget in enumerate(budgets)
        for seed in seeds
    ]  # type: ignore[misc]


PLANTED = {
    "mlp": 0.512,
    "fm": 0.486,
    "fm_mlp": 0.474,
    "dlrm": 0.471,
    "dlrm_cat": 0.509,
    "dcnv2": 0.472,
    "deepfm": 0.482,
}
CONTROL = dict.fromkeys(PLANTED, 0.468)
