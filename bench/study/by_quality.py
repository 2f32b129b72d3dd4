"""Claims about quality: decided by log loss at equal cost, paired by seed, on the planted log and on the control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.study.claim import Claim, Data, Verdict
from bench.study.frontier import (
    COSTS,
    Cost,
    Estimate,
    Learned,
    difference,
    estimate,
    match,
    on_control,
    paired,
    rate_at_edge,
)

FAMILY_ERROR = 0.05
"""All comparisons of one claim together: each interval is widened for their number (Bonferroni)."""
EDGE_RULE = "Depends at most where a model that is to do worse had its learning rate chosen at an edge of those tried."
NEGLIGIBLE = 0.001
"""A difference of log loss below this does not count as needing the costlier model."""


class Comparison(NamedTuple):
    """Log loss of a model minus that of another with at least its cost; below 0 the model is better."""

    model: Learned
    other: Learned
    difference: Estimate

    @property
    def better(self) -> bool:
        """Whether the whole interval lies below 0."""
        return self.difference.high < 0

    @property
    def worse(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.difference.low > 0


class Beside(NamedTuple):
    """The same two models on the control log: their difference, and that on the planted log minus it, by seed.

    A contrast below 0: the model gains more where interactions are planted.
    """

    model: Learned
    other: Learned
    difference: Estimate
    contrast: Estimate


def compare(
    models: Sequence[Learned], log: str, rivals: Sequence[str], against: Sequence[str], cost: Cost
) -> list[Comparison]:
    """Each model of `rivals` with the one of `against` that had the least cost not below its own, on one log."""
    own = [m for m in models if m.log == log and m.model.variant in rivals]
    others = [m for m in models if m.log == log and m.model.variant in against]
    pairs = [(m, other) for m in own if (other := match(m, others, cost))]
    confidence = 1 - FAMILY_ERROR / max(len(pairs), 1)
    return [Comparison(m, o, d) for m, o in pairs if (d := difference(m, o, confidence))]


def beside(found: Comparison, models: Sequence[Learned], confidence: float) -> Beside | None:
    """A comparison on the planted log held against its control; None where either model was not trained there."""
    model, other = on_control(found.model, models), on_control(found.other, models)
    if model is None or other is None:
        return None
    there, here = paired(model, other), paired(found.model, found.other)
    contrasts = [here[seed] - there[seed] for seed in here if seed in there]
    there_too = difference(model, other, confidence)
    return Beside(model, other, there_too, estimate(contrasts, confidence)) if there_too and contrasts else None


def _lacking(found: Sequence[Comparison], rivals: Sequence[str], against: str) -> str | None:
    """Why nothing can be said, or None."""
    if not found:
        return f"no trial on the planted log of {', '.join(rivals)} with one of {against} of at least its FLOPs"
    if not any(c.difference.known for c in found):
        return "one seed a model, which says nothing of the scatter between seeds"
    return None


def _better_than(data: Data, claim: Claim, rivals: Sequence[str], against: str) -> Claim:
    """Decide that `rivals` do better than `against` where interactions are planted, and by more than without them."""
    by_cost = {cost.name: compare(data.models, "planted", rivals, (against,), cost) for cost in COSTS}
    found = by_cost["flops"]
    lacking = _lacking(found, rivals, against)
    if lacking:
        return claim._replace(text=f"This run has {lacking}.")
    confidence = 1 - FAMILY_ERROR / len(found)
    control = [held for c in found if (held := beside(c, data.models, confidence))]
    more = sum(held.contrast.high < 0 for held in control)
    elsewhere = sum(held.difference.high < 0 for held in control)
    absent = _absent(found, rivals)
    # A better rate for these would take from the claim; one for the others would only add to it.
    doubt = _edges([c.other for c in found] + [held.model for held in control])
    verdict: Verdict = "depends"
    if not any(c.better for c in found):
        verdict = "not supported"
    elif all(c.better for c in found) and more == len(found) and not (elsewhere or absent or doubt):
        verdict = "supported"
    at_cost = ", ".join(f"{_tally(by_cost[c.name])} at equal {c.title}" for c in COSTS)
    parts = [
        f"Lower log loss than {against} on the planted log in {at_cost}; higher in {sum(c.worse for c in found)} of "
        f"{len(found)} at equal FLOPs. {_extremes(found)}",
        f"On the control log lower in {elsewhere} of {len(control)}. By seed, the gain on the planted log exceeds that "
        f"on the control in {more} of {len(found)}."
        if control
        else "There is no control log to compare with.",
        _uncompared(absent),
        doubt,
    ]
    return claim._replace(verdict=verdict, text=" ".join(filter(None, parts)), evidence=_evidence(found))


def _absent(found: Sequence[Comparison], rivals: Sequence[str]) -> list[str]:
    """Rivals that met nobody: never trained, or dearer than all they would have to meet."""
    met = {c.model.model.variant for c in found}
    return [variant for variant in rivals if variant not in met]


def _uncompared(absent: Sequence[str]) -> str:
    return f"Not compared: {', '.join(absent)}." if absent else ""


def _edges(models: Sequence[Learned]) -> str:
    """How many of these models' trials had a learning rate at an edge of the grid; empty where none had."""
    at_edge = {t.key: rate_at_edge(t) for model in models for t in model.trials}
    many = sum(at_edge.values())
    told = "that are to do worse the learning rate is the least or the largest that was tried: another might do better"
    return f"In {many} of {len(at_edge)} trials {told}." if many else ""


def _tally(found: Sequence[Comparison]) -> str:
    return f"{sum(c.better for c in found)} of {len(found)}"


def _extremes(found: Sequence[Comparison]) -> str:
    ordered = sorted(found, key=lambda c: c.difference.value)
    first, last = ordered[0], ordered[-1]
    text = f"Best: {_say(first)}"
    return f"{text}." if first is last else f"{text}; worst: {_say(last)}."


def _say(found: Comparison) -> str:
    d = found.difference
    return f"{found.model.name} {d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}] against {found.other.name}"


def _evidence(found: Sequence[Comparison]) -> tuple[tuple[str, float], ...]:
    return tuple((f"{c.model.name} minus {c.other.name}", c.difference.value) for c in found)


def dense_into_space(data: Data) -> Claim:
    """dlrm against dlrm_cat."""
    claim = Claim(
        "dense_interact",
        "Dense features mapped into the embedding space and interacting there (dlrm) do better than features side by "
        "side (dlrm_cat).",
        "not measured",
        "",
        "Supported where every dlrm has a lower log loss on the planted log than a dlrm_cat of at least its FLOPs, "
        "gains more over it there than on the control log, by seed, and has no lower one on that; not supported where "
        f"none has a lower one on the planted log. {EDGE_RULE}",
    )
    return _better_than(data, claim, ("dlrm",), "dlrm_cat")


def deep_is_inefficient(data: Data) -> Claim:
    """Explicit interactions against a plain network."""
    claim = Claim(
        "deep_network",
        "Leaving interactions to a deep network is inefficient.",
        "not measured",
        "",
        "Supported where every fm, fm_mlp, dlrm and dcnv2 has a lower log loss on the planted log than an mlp of at "
        "least its FLOPs, gains more over it there than on the control log, by seed, and has no lower one on that; not "
        f"supported where none has a lower one on the planted log. {EDGE_RULE}",
    )
    return _better_than(data, claim, ("fm", "fm_mlp", "dlrm", "dcnv2"), "mlp")


def second_order_suffices(data: Data) -> Claim:
    """dlrm against higher orders."""
    rivals = ("dcn", "dcnv2", "deepfm")
    claim = Claim(
        "second_order",
        "DLRM does not need interactions of higher order.",
        "not measured",
        "",
        f"Supported where no dcn, dcnv2 or deepfm can have a log loss lower by {NEGLIGIBLE} or more on the planted log "
        "than a dlrm of at least its FLOPs (every interval above that), all three compared; not supported where "
        "all that were have a clearly lower one. The interactions of that log are pairwise: of data with higher ones "
        f"this says nothing. {EDGE_RULE}",
    )
    found = compare(data.models, "planted", rivals, ("dlrm",), COSTS[0])
    lacking = _lacking(found, rivals, "dlrm")
    if lacking:
        return claim._replace(text=f"This run has {lacking}.")
    absent = _absent(found, rivals)
    doubt = _edges([c.model for c in found])
    level = all(c.difference.low > -NEGLIGIBLE for c in found)
    verdict: Verdict = "supported" if level and not (absent or doubt) else "depends"
    if all(c.better for c in found):
        verdict = "not supported"
    parts = [
        f"Higher orders have a lower log loss than dlrm in {_tally(found)} comparisons at equal FLOPs, a higher one in "
        f"{sum(c.worse for c in found)}. {_extremes(found)}",
        _uncompared(absent),
        doubt,
    ]
    return claim._replace(verdict=verdict, text=" ".join(filter(None, parts)), evidence=_evidence(found))
