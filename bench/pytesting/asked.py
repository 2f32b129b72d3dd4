"""The marker dlrm_bench(tolerance, budget, metric): what a test asks of its measurement. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from workloads.spec import SpecError

METRICS = ("min", "mean", "median")
UNITS_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """tolerance_frac: the slow-down that a gate is to find; budget_s: the most that the metric may be, else the test
    fails; metric: the statistic that counts, in seconds per call."""

    tolerance_frac: float | None = None
    budget_s: float | None = None
    metric: str = "median"


def asked(marks: Sequence[Mapping[str, Any]]) -> Asked:
    """The markers' arguments, the closest to the test first. Raises SpecError with what is allowed."""
    joined: dict[str, Any] = {}
    for given in reversed(marks):
        joined |= given
    for name in joined:
        if name not in ("tolerance", "budget", "metric"):
            raise SpecError("dlrm_bench", name, "tolerance, budget and metric are known")
    metric = joined.get("metric", "median")
    if metric not in METRICS:
        raise SpecError("metric", metric, f"known: {', '.join(METRICS)}")
    return Asked(
        tolerance_frac=_tolerance(joined.get("tolerance")), budget_s=_budget(joined.get("budget")), metric=metric
    )


def _tolerance(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise SpecError("tolerance", value, "a fraction between 0 and 1; 0.05 is 5 %")
    return float(value)


def _budget(value: Any) -> float | None:
    if value is None:
        return None
    found = re.fullmatch(r"([0-9.]+) ?(s|ms|us)", str(value))
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return float(value)
    if found is None:
        raise SpecError("budget", value, "seconds above 0, or words such as '10ms', '500us', '1.5s'")
    return float(found[1]) * UNITS_S[found[2]]
