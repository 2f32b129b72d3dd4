"""gate --plan: what would run, for how long, and what it could find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.commands.output import print_json, print_table
from bench.gate.plan import GatePlan, make_plan
from bench.gate.presets import Preset
from bench.gate.suite import SuiteCase
from bench.gate.verdict import CaseVerdict, Reason
from bench.progress import seconds


def print_plan(
    cases: Sequence[SuiteCase], skipped: Mapping[str, str], preset: Preset, budget_s: float | None, *, as_json: bool
) -> None:
    """Print the plan; nothing is run."""
    not_run = [verdict for c in cases if (verdict := _not_run(c, skipped))]
    names = {v.case for v in not_run}
    plan = make_plan([c.name for c in cases if c.name not in names], not_run, preset, budget_s)
    if as_json:
        print_json(plan)
        return
    rows = [[name, "both sides, timed"] for name in plan.run]
    rows += [[v.case, f"{v.status}: {v.reason.message}"] for v in plan.not_run]
    print_table("gate plan", ["case", "verdict"], rows)
    _print_sentences(plan)


def _not_run(case: SuiteCase, skipped: Mapping[str, str]) -> CaseVerdict | None:
    if case.name in skipped:
        return CaseVerdict(case=case.name, status="SKIPPED", reason=Reason("unavailable", skipped[case.name]))
    if case.base is None:
        return CaseVerdict(case=case.name, status="NEW", reason=Reason("new", "only head's suite has it"))
    if case.head is None:
        return CaseVerdict(case=case.name, status="MISSING", reason=Reason("missing", "only base's suite has it"))
    if not case.same:
        told = "the sides mean different work by this name; its counters are compared, its time is not"
        return CaseVerdict(case=case.name, status="NOT_COMPARABLE", reason=Reason("case_changed", told))
    return None


def _print_sentences(plan: GatePlan) -> None:
    preset = plan.preset
    print(
        f"Stage 1: {preset.n1[0]} to {preset.n1[1]} epochs of about {seconds(plan.epoch_s)}, all cases: "
        f"about {seconds(plan.stage1_s)} where the machine is quiet.\n"
        f"Stage 2: flagged cases only, {plan.least_n2} to {preset.n2[1]} new epochs; fails at p <= "
        f"{plan.confirm_level:.2g}. At most {seconds(plan.longest_s)} in all, were every case flagged."
    )
    for spread, found in plan.detectable_frac.items():
        print(
            f"Epochs that scatter by {100 * float(spread):g} %: a slow-down of {100 * found:.1f} % is found, if it is "
            f"well over the floor of {preset.floor_s * 1e6:g} us."
        )
    if plan.budget_s is not None and plan.budget_s < plan.stage1_s:
        print(f"The budget of {seconds(plan.budget_s)} does not hold stage 1: cases may end inconclusive.")
