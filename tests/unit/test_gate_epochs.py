"""Epochs: exact injection, and a side that cannot be started."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.gate import presets, schedule
from bench.gate.epochs import injected, run_epoch
from bench.gate.ledger import CONTROLS
from bench.gate.log import Failed, Line, SideName
from bench.gate.run import control_job
from bench.gate.side import Checkout


@pytest.mark.parametrize(("steps", "frac", "found"), [(25, 0.05, (40, 2)), (11, 0.1, (20, 2)), (4, 0.1, (10, 1))])
def test_injection_is_exact_whatever_a_block_holds(steps: int, frac: float, found: tuple[int, int]) -> None:
    assert injected(steps, frac) == found
    assert injected(steps, 0.0) == (steps, 0)


def test_every_block_is_slowed_by_the_share_asked_for() -> None:
    for frac in (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.125, 0.2, 0.5, 1.0, 1.5):
        for steps in range(1, 60):
            whole, extra = injected(steps, frac)
            assert whole >= steps
            assert extra == pytest.approx(whole * frac, rel=1e-12)


@pytest.mark.parametrize("frac", [float("nan"), float("inf"), -0.05, 0.0501234, 1e-9])
def test_a_share_that_whole_steps_cannot_make_is_refused(frac: float) -> None:
    with pytest.raises(ValueError, match="no share of"):
        injected(10, frac)


def test_where_a_side_cannot_start_every_case_has_failed_on_it(tmp_path: Path) -> None:
    sides: dict[SideName, Checkout] = {
        name: Checkout(side=name, python="false", root=tmp_path, folder=tmp_path, working_tree=tmp_path)
        for name in ("base", "head")
    }
    plan = schedule.plan_epoch(0, 1, 1, ["a", "b"])
    preset = presets.load("quick")
    jobs = {name: control_job(name, preset) for name in ("a", "b", *CONTROLS)}
    lines: list[Line] = []
    run_epoch(plan, sides, jobs, tmp_path, lines.append)
    failed = [line for line in lines if isinstance(line, Failed)]
    assert {line.case for line in failed} == {"a", "b"}
    assert len(failed) == len(lines) == 2
    assert "process: it" in failed[0].message
    assert failed[0].side == plan.first
