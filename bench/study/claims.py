"""The claims of the article and the DLRM paper, each decided by what was measured. A pure function of records, trials.

A claim is `supported` or `not supported` only where its rule, written beside it, is met or broken by the data; it
`depends` where parts of the rule disagree, and is `not measured` where the run lacks what the rule needs. Nothing is
assumed in the thesis's favour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.records import QualityTrial, Record
from bench.study import by_cost, by_quality
from bench.study.claim import Claim, Data
from bench.study.frontier import learned
from bench.study.scaling import series

DECIDERS: tuple[Callable[[Data], Claim], ...] = (
    by_cost.two_entities,
    by_cost.pair_parameters,
    by_cost.shared_parameters,
    by_cost.two_forms,
    by_cost.free_interaction,
    by_cost.three_stages,
    by_quality.dense_into_space,
    by_quality.deep_is_inefficient,
    by_quality.second_order_suffices,
)


def claims(records: Sequence[Record], trials: Sequence[QualityTrial]) -> list[Claim]:
    """Every claim, in the order of the argument. Empty where the run holds neither series over N nor trials."""
    measured = tuple(r for r in records if r.outcome.status == "ok" and r.measurement)
    data = Data(measured, tuple(series(measured)), tuple(learned(trials)))
    return [decide(data) for decide in DECIDERS] if data.series or data.models else []
