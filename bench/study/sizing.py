"""Models of equal cost: widths chosen so that each variant's own count of forward FLOPs meets a budget. Pure.

What a size changes: the top MLP is (w, w/2, 1); dcnv2's cross rank is w/4, which costs about as much as the first layer
of its MLP. What it does not: tables, the bottom MLP of the variants that embed dense features, the number of cross
layers. mf, fm and poly2 have no free size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workloads import models
from workloads.batch import expected_touch
from workloads.click_log import ClickLogSpec
from workloads.spec import ModelSpec, SpecError

SIZED = ("fm_mlp", "mlp", "dlrm", "dlrm_cat", "dcn", "dcnv2", "deepfm")
UNSIZED = ("mf", "fm", "poly2")
VARIANTS = (*UNSIZED, *SIZED)
EMBEDS_DENSE = ("fm", "poly2", "dlrm", "dlrm_cat", "deepfm")
BOTTOM_WIDTH = 32
CROSS_LAYERS = 2
MAX_WIDTH = 65_536
TOLERANCE = 0.05


def sized_model(variant: str, log: ClickLogSpec, dim: int, budget_flops: float | None) -> ModelSpec:
    """The model of `variant` whose forward FLOPs per sample come nearest to the budget (None: the one size it has).

    Raises SpecError where no width comes within 5 %, which says what the variant needs at least.
    """

    def sized(width: int, rank: int | None = None) -> ModelSpec:
        return _model(variant, log, dim, width, max(1, width // 4) if rank is None else rank)

    if budget_flops is None:
        only = sized(0)
        # Counting is also what refuses a log that does not fit the variant.
        forward_flops_per_sample(only)
        return only
    best = _nearest(sized, budget_flops)
    if variant == "dcnv2":
        # One more rank costs more than 5 % of a small budget: it stays, and the MLP alone makes up the difference.
        rank = best.cross_rank
        best = _nearest(lambda width: sized(width, rank), budget_flops)
    found = forward_flops_per_sample(best)
    if abs(found - budget_flops) > TOLERANCE * budget_flops:
        needed = f"variant {variant!r} comes no nearer than {found:.0f} (top_mlp {list(best.top_mlp)}); 5 % is allowed"
        raise SpecError("budgets", budget_flops, needed)
    return best


def _nearest(sized: Callable[[int], ModelSpec], budget: float) -> ModelSpec:
    """By bisection over the width, with which FLOPs grow."""
    low, high = 1, MAX_WIDTH
    while high - low > 1:
        middle = (low + high) // 2
        if forward_flops_per_sample(sized(middle)) <= budget:
            low = middle
        else:
            high = middle
    return min((sized(low), sized(high)), key=lambda model: abs(forward_flops_per_sample(model) - budget))


def forward_flops_per_sample(model: ModelSpec) -> float:
    """FLOPs that a forward pass computes per sample, by the variant's own count."""
    batch_size = 1024
    work = models.count_work(model, batch_size, "forward", expected_touch(model, batch_size))
    return work.total("flops") / batch_size


def _model(variant: str, log: ClickLogSpec, dim: int, width: int, rank: int) -> ModelSpec:
    parts: dict[str, Any] = {}
    if log.num_dense and variant in EMBEDS_DENSE:
        parts["bottom_mlp"] = (BOTTOM_WIDTH, dim)
    if variant in SIZED:
        parts["top_mlp"] = (width, max(1, width // 2), 1)
    if variant in ("dcn", "dcnv2"):
        parts["cross_layers"] = CROSS_LAYERS
    if variant == "dcnv2":
        parts["cross_rank"] = rank
    return ModelSpec(
        name=f"{variant}-{log.num_features}f",
        variant=variant,
        tables=log.tables(dim),
        num_dense=log.num_dense,
        **parts,
    )
