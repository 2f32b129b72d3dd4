"""Stages by the host's clock, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.running import stage_clock
from bench.running.stage_clock import Clocked, StageClock, clocked, joined


class Time:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now(self) -> float:
        return self.at_s

    def passes(self, seconds: float) -> None:
        self.at_s += seconds


def test_a_stage_has_its_own_time_without_stages_inside_it() -> None:
    time = Time()
    clock = StageClock(time.now)
    for _ in range(2):
        with clock("top_mlp"):
            time.passes(1.0)
            with clock("interaction"):
                time.passes(0.25)
            time.passes(2.0)
        time.passes(9.0)
    assert dict(clock.spent_s) == {"top_mlp": 6.0, "interaction": 0.5}


def test_a_stage_that_fails_is_closed() -> None:
    time = Time()
    clock = StageClock(time.now)

    def fail() -> None:
        with clock("loss"):
            time.passes(1.0)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert (clock.inner_s, dict(clock.spent_s)) == ([], {"loss": 1.0})


@pytest.mark.parametrize(("timed_s", "steps"), [(1e-9, 200), (0.01, 10), (5.0, 3)])
def test_the_pass_is_bounded_and_its_first_step_does_not_count(
    monkeypatch: pytest.MonkeyPatch, timed_s: float, steps: int
) -> None:
    time, put_in, calls = Time(), [], []
    monkeypatch.setattr(stage_clock, "StageClock", lambda: StageClock(time.now))

    def annotate(clock: StageClock | None) -> None:
        put_in.append(clock)

    def step() -> None:
        calls.append(1)
        with put_in[0]("embedding"):
            time.passes(50.0 if len(calls) == 1 else 3.0)
        time.passes(1.0)

    found = clocked(step, annotate, timed_s)
    assert len(calls) == steps + 1
    assert put_in[1] is None
    assert found.step_s == pytest.approx(4.0)
    assert found.stages == {"embedding": pytest.approx(3.0)}


def test_what_comes_before_a_step_is_no_part_of_it_and_shortens_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    time, order = Time(), list[str]()
    monkeypatch.setattr(stage_clock, "StageClock", lambda: StageClock(time.now))

    def step() -> None:
        order.append("step")
        time.passes(0.001)

    def flush() -> None:
        order.append("flush")
        time.passes(0.019)

    found = clocked(step, lambda _: None, 0.001, flush)
    assert order == ["flush", "step"] * (1 + 5)
    assert found.step_s == pytest.approx(0.001)


def test_the_clocked_backward_pass_is_divided_as_the_profiled_one() -> None:
    found = Clocked(step_s=10.0, stages={"top_mlp": 2.0, "loss": 0.5, "backward": 6.0})
    profiled = {"top_mlp": (9.0, 6.0), "embedding": (0.0, 4.0), "backward": (0.0, 2.0)}
    stages, ratio = joined(found, profiled)
    assert ratio == 2.0
    assert stages == {"top_mlp": (2.0, 3.0), "embedding": (0.0, 2.0), "backward": (0.0, 1.0), "loss": (0.5, 0.0)}
    assert sum(map(sum, stages.values())) == pytest.approx(sum(found.stages.values()))
    assert joined(Clocked(step_s=1.0, stages={"loss": 1.0}), {"loss": (3.0, 0.0)}) == ({"loss": (1.0, 0.0)}, 1.0)


def test_the_clock_is_as_good_as_none_in_a_model() -> None:
    torch = pytest.importorskip("torch")
    from workloads.layers import annotate_with, silent

    model = torch.nn.Linear(2, 2)
    seen: Callable[[str], object] = StageClock()
    annotate_with(model, seen)
    assert model.annotate is seen
    annotate_with(model, None)
    assert model.annotate is silent
