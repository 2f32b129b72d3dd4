"""The plan: what fits, what is skipped and why, how long it takes. By hand-made numbers."""

from __future__ import annotations

import pytest

from bench.errors import UsageError
from bench.plan import Planned, Surroundings, gib, plan, require_runnable
from bench.records import Case, Limits
from bench.sweep_spec import make_case

GIB = 2**30


def planned(needed: dict[str, int], available: int, unavailable: str | None = None) -> str | None:
    around = Surroundings(
        memory_available_bytes=available, unavailable=lambda _: unavailable, memory_needed=lambda _: needed
    )
    case: Case = make_case("tiny", None, {})
    return plan([case], Limits(), around)[0].skip_reason


def test_what_fits_runs() -> None:
    assert planned({"tables": 5 * GIB}, 10 * GIB) is None


def test_what_does_not_fit_is_skipped_with_both_figures_and_the_largest_part() -> None:
    reason = planned({"tables": 9 * GIB, "batch": GIB}, 10 * GIB)
    assert reason is not None
    assert "needs 10 GiB of memory (tables 9 GiB)" in reason
    assert "9 GiB may be used" in reason
    assert "rows_scale" in reason


def test_a_missing_backend_comes_before_memory() -> None:
    assert planned({"tables": 99 * GIB}, GIB, "fbgemm is not installed") == "fbgemm is not installed"


def test_time_grows_with_memory_and_budget() -> None:
    def estimate(needed: int, budget_s: float) -> float:
        around = Surroundings(
            memory_available_bytes=99 * GIB, unavailable=lambda _: None, memory_needed=lambda _: {"tables": needed}
        )
        return plan([make_case("tiny", None, {})], Limits(budget_s=budget_s), around)[0].estimate_s

    assert estimate(8 * GIB, 1) > estimate(GIB, 1) > estimate(GIB, 0.1)


def plan_of(reasons: list[str | None]) -> list[Planned]:
    case = make_case("tiny", None, {})
    return [
        Planned(key="k", case=case, memory_bytes=1, memory_parts={}, estimate_s=1.0, skip_reason=r) for r in reasons
    ]


def test_one_case_that_can_run_is_enough() -> None:
    require_runnable(plan_of(["no", None]))
    require_runnable([])


def test_where_none_can_run_each_reason_is_told_once() -> None:
    with pytest.raises(UsageError, match=r"none of the 3 cases can run here:\n  too big\n  no GPU$"):
        require_runnable(plan_of(["too big", "no GPU", "too big"]))
    with pytest.raises(UsageError, match="and 3 reasons more: see --plan"):
        require_runnable(plan_of([f"reason {n}" for n in range(8)]))


@pytest.mark.parametrize(
    ("number", "text"), [(512, "512 B"), (2**20, "1 MiB"), (480 * 2**20, "480 MiB"), (3.5 * 2**40, "3.5 TiB")]
)
def test_capacities_are_binary(number: float, text: str) -> None:
    assert gib(number) == text


def planned_on_gpu(there: int, here: int, free: int, available: int) -> str | None:
    around = Surroundings(
        memory_available_bytes=available,
        unavailable=lambda _: None,
        memory_needed=lambda _: {"tables": there, "reference_check": here},
        device_needed=lambda _: ({"tables": there}, free),
    )
    return plan([make_case("tiny", None, {"device": "cuda"})], Limits(), around)[0].skip_reason


def test_a_gpu_and_its_host_each_have_their_own_memory() -> None:
    assert planned_on_gpu(9 * GIB, GIB, 10 * GIB, 2 * GIB) is None
    assert "needs 9 GiB of memory of cuda (tables 9 GiB)" in str(planned_on_gpu(9 * GIB, GIB, 9 * GIB, 99 * GIB))
    assert "needs 2 GiB of host memory (reference_check 2 GiB)" in str(planned_on_gpu(GIB, 2 * GIB, 99 * GIB, 2 * GIB))


def test_compiling_takes_time_that_a_plan_knows() -> None:
    around = Surroundings(memory_available_bytes=GIB, unavailable=lambda _: None, memory_needed=lambda _: {"tables": 1})
    cases = [make_case("tiny", None, {"execution": name}) for name in ("eager", "compile")]
    eager, compiled = (p.estimate_s for p in plan(cases, Limits(), around))
    assert compiled > eager
