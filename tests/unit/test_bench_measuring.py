"""Warm-up, stopping and clocks, on a fake clock: how steps are grouped, when measuring ends, what is flagged."""

from __future__ import annotations

import time

import pytest

from bench.records import Limits
from bench.running.clocks import CudaClock, HostClock
from bench.running.measuring import measure, spread_evenly
from bench.running.stopping import Precision, Warmup
from tests.fakes import FakeClock, FakeCuda


def nothing(_: object) -> None:
    return None


def test_a_repeat_groups_steps_until_it_lasts_long_enough() -> None:
    found = measure(nothing, [0], FakeClock(0.004), Limits(min_repeat_s=0.05))
    assert found.steps_per_repeat == 13
    assert found.times_s[0] == pytest.approx(0.004)


def test_a_gpu_repeat_has_at_least_twenty_launches() -> None:
    short = Limits(min_repeat_s=0.005)
    assert measure(nothing, [0], FakeClock(0.0011), short).steps_per_repeat == 5
    assert measure(nothing, [0], FakeClock(0.0011), short, min_steps=20).steps_per_repeat == 20


@pytest.mark.parametrize(("step_s", "steps"), [(0.009, 6), (0.1, 1)])
def test_long_steps_are_not_multiplied_for_their_number(step_s: float, steps: int) -> None:
    found = measure(nothing, [0], FakeClock(step_s), Limits(), min_steps=20)
    assert found.steps_per_repeat == steps
    assert (found.stopped_by, len(found.times_s)) == ("precision", 15)


def test_inputs_are_rotated_through_warmup_and_repeats() -> None:
    seen: list[int] = []
    measure(seen.append, [0, 1, 2], FakeClock(0.01), Limits())
    assert seen == [i % 3 for i in range(len(seen))]
    assert len(seen) > 20


def test_steady_times_stop_by_precision_after_the_fewest_repeats_and_a_quarter_more() -> None:
    found = measure(nothing, [0], FakeClock(0.01), Limits(min_repeats=8))
    assert (found.stopped_by, len(found.times_s), found.flags) == ("precision", 10, ())


def test_a_narrow_interval_that_widens_again_does_not_stop() -> None:
    stop = Precision(Limits(min_repeats=8, budget_s=100.0))
    for step_s in [1.0] * 8 + [1.5] * 6:
        stop.add(step_s, 0.01)
        assert stop.reason is None


def test_noise_beyond_the_budget_stops_by_time_and_says_imprecise() -> None:
    found = measure(nothing, [0], FakeClock(0.05, noise=0.5), Limits(budget_s=1.0, precision_frac=0.001))
    assert found.stopped_by == "time_budget"
    assert "imprecise" in found.flags


def test_the_budget_ends_no_case_before_an_interval_can_hold_its_median() -> None:
    found = measure(nothing, [0], FakeClock(10.0, noise=0.01), Limits(budget_s=2.0))
    assert (found.stopped_by, len(found.times_s)) == ("time_budget", 6)
    assert "imprecise" in found.flags


@pytest.mark.parametrize(
    ("limits", "reason", "count"),
    [
        ({"min_repeats": 3}, "time_budget", 3),
        ({"min_repeats": 1}, "time_budget", 1),
        ({"min_repeats": 12}, "time_budget", 6),
        ({"max_repeats": 2}, "max_repeats", 2),
    ],
)
def test_fewer_repeats_than_that_are_taken_where_they_are_asked_for(
    limits: dict[str, int], reason: str, count: int
) -> None:
    stop = Precision(Limits(budget_s=2.0, precision_frac=0.0, **limits))  # type: ignore[arg-type]
    for step_s in range(count):
        assert stop.reason is None
        stop.add(10.0 + step_s, 10.0)
    assert stop.reason == reason


def test_repeats_are_capped() -> None:
    found = measure(nothing, [0], FakeClock(0.05, noise=0.5), Limits(budget_s=1e9, precision_frac=0, max_repeats=30))
    assert (found.stopped_by, len(found.times_s)) == ("max_repeats", 30)


def test_the_first_call_is_not_part_of_any_repeat() -> None:
    found = measure(nothing, [0], FakeClock(0.01, slow_first=1), Limits())
    assert found.first_call_s == pytest.approx(0.1)
    assert max(found.times_s) == pytest.approx(0.01)


def test_warmup_waits_until_two_windows_agree() -> None:
    warmup = Warmup()
    for _ in range(20):
        warmup.add(1.0)
        if warmup.done:
            break
    assert (warmup.steady, len(warmup.times_s)) == (True, 13)


def test_warmup_gives_up_at_its_cap_and_says_so() -> None:
    warmup = Warmup(max_steps=40, max_s=1e9)
    step_s = 1.0
    while not warmup.done:
        step_s *= 0.95
        warmup.add(step_s)
    assert (warmup.steady, len(warmup.times_s)) == (False, 40)


def test_precision_needs_the_fewest_repeats_even_when_times_are_equal() -> None:
    stop = Precision(Limits(min_repeats=8))
    for _ in range(7):
        stop.add(1.0, 0.01)
    assert stop.reason is None


def test_cold_mode_flushes_before_every_single_step() -> None:
    order: list[str] = []
    measure(lambda _: order.append("step"), [0], FakeClock(0.01), Limits(), between=lambda: order.append("flush"))
    measured = order[order.index("flush") :]
    assert measured == ["flush", "step"] * (len(measured) // 2)


def test_the_host_clock_times_every_step() -> None:
    repeat = HostClock().repeat(time.sleep, [0.002, 0.001, 0.002])
    assert len(repeat.step_times_s) == 3
    assert sum(repeat.step_times_s) == pytest.approx(repeat.wall_s)
    assert repeat.step_times_s[0] >= 0.002


def test_the_cuda_clock_waits_for_the_device_and_reads_its_events() -> None:
    cuda = FakeCuda(now_ms=lambda: 0.0)
    repeat = CudaClock(cuda).repeat(cuda.launch, [3.0, 4.0])
    assert repeat.event_s == pytest.approx(0.007)
    assert cuda.synchronized == 2
    assert repeat.step_times_s == ()


def test_the_time_between_events_holds_the_gaps_of_the_host() -> None:
    host_ms = [0.0]
    cuda = FakeCuda(now_ms=lambda: host_ms[0])

    def step(cost_ms: float) -> None:
        cuda.launch(cost_ms)
        host_ms[0] += 1.0

    assert CudaClock(cuda).repeat(step, [0.1, 0.1]).event_s == pytest.approx(0.002)
    host_ms[0] = 100.0
    assert CudaClock(cuda).repeat(step, [3.0, 3.0]).event_s == pytest.approx(0.006)


def test_steps_that_fault_memory_in_again_and_again_are_flagged() -> None:
    import mmap

    def step(_: object) -> None:
        with mmap.mmap(-1, 1 << 20) as fresh:
            for page in range(0, 1 << 20, 4096):
                fresh[page] = 1

    found = measure(step, [0], HostClock(), Limits(budget_s=0.2, min_repeat_s=0.01))
    assert "page_faults" in found.flags
    assert "page_faults" not in measure(nothing, [0], HostClock(), Limits(budget_s=0.05, min_repeat_s=0.01)).flags


def test_single_steps_are_kept_from_the_whole_run_and_in_order():
    kept = spread_evenly([i * 1e-6 for i in range(10_001)], 4_000)
    assert len(kept) <= 4_000
    assert kept[0] == 0
    assert kept[-1] > 0.0099
    assert list(kept) == sorted(kept)
    assert spread_evenly([1.23456789012e-05], 4_000) == (1.2346e-05,)


def test_a_device_clock_times_single_steps_apart_from_its_repeats() -> None:
    cuda = FakeCuda()

    def step(cost_ms: float) -> None:
        cuda.launch(cost_ms)
        time.sleep(0.0005)

    limits = Limits(budget_s=0.2, min_repeat_s=0.005)
    found = measure(step, [0.4], CudaClock(cuda), limits, min_steps=20, latency_steps=7)
    assert found.steps_per_repeat >= 20
    assert len(found.step_times_s) == 7
    assert measure(step, [0.4], CudaClock(cuda), limits, min_steps=20).step_times_s == ()
    host = measure(step, [0.4], HostClock(), limits, latency_steps=7)
    assert len(host.step_times_s) == host.steps_per_repeat * len(host.times_s)
