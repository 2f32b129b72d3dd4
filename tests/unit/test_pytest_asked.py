"""What the marker may ask, what a test may measure, and what is told of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from bench.gate import presets
from bench.pytest_plugin import DlrmBenchmark
from bench.pytesting.asked import Asked, asked
from bench.pytesting.target import target_of
from bench.pytesting.told import NO_CEILINGS, NO_WORK, extra_info
from bench.records import Case
from tests import sample_records
from workloads.spec import SpecError
from workloads.work import StageWork, Work

WORK = Work(
    samples=4,
    lookups=40.0,
    row_bytes=64.0,
    stages={"top_mlp": StageWork(flops=1000, bytes_compulsory=3_020_000, working_set_bytes=1 << 28)},
)
MACHINE = sample_records.machine()


def no_cache(_: str) -> int:
    return 0


def test_the_closest_marker_counts() -> None:
    marks: list[dict[str, Any]] = [{"metric": "min"}, {"metric": "mean", "tolerance": 0.05, "budget": "10ms"}]
    assert asked(marks) == Asked(metric="min", tolerance_frac=0.05, budget_s=0.01)
    assert asked([]) == Asked(metric="median")
    assert asked([{"budget": 2}]).budget_s == 2.0
    assert asked([{"budget": "500 us"}]).budget_s == pytest.approx(5e-4)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"metric": "p99"}, "min, mean, median"),
        ({"tolerance": 5}, "0.05 is 5 %"),
        ({"tolerance": "5%"}, "0.05 is 5 %"),
        ({"tolerance": True}, "0.05 is 5 %"),
        ({"budget": "soon"}, "10ms"),
        ({"budget": -1}, "above 0"),
        ({"limit": 1}, "tolerance, budget and metric"),
    ],
)
def test_a_marker_that_means_nothing_is_told(given: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        asked([given])


def test_inputs_are_given_in_rotation() -> None:
    seen: list[int] = []
    target = target_of(seen.append, [1, 2, 3], None, {}, no_cache)
    for _ in range(4):
        target.once()
    assert seen == [1, 2, 3, 1]
    target.first()
    target.first()
    assert seen[4:] == [1, 1], "counters are of two steps on the same input"
    assert target.num_inputs == 3


class CudaTensor:
    """Stands for torch with a device in use."""

    waited = 0

    @staticmethod
    def is_initialized() -> bool:
        return True

    @classmethod
    def synchronize(cls) -> None:
        cls.waited += 1


def test_the_device_is_waited_for_in_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    fake = types.SimpleNamespace(cuda=CudaTensor)
    monkeypatch.setitem(sys.modules, "torch", fake)  # type: ignore[arg-type]
    before = CudaTensor.waited
    target = target_of(lambda: 1, None, None, {}, no_cache)
    assert [target.once(), target.once(), target.first()] == [1, 1, 1]
    assert CudaTensor.waited == before + 2


@pytest.mark.parametrize(
    ("what", "more", "words"),
    [
        (5, {}, "a preset's name, a Case, or a callable"),
        (len, {"inputs": []}, "at least one input"),
        (len, {"axes": {"dim": 3}}, "axes belong to a preset"),
        ("tiny", {"inputs": [1]}, "makes its own inputs"),
        ("tinny", {}, "tiny"),
        (Case(code="a.py:f"), {}, "a case of a model"),
        ("tiny", {"axes": {"execution": "compile"}}, "the usual execution"),
    ],
)
def test_what_cannot_be_measured_is_told(what: Any, more: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        target_of(what, more.get("inputs"), None, more.get("axes", {}), no_cache)


def test_fraction_of_roof_follows_from_work_and_ceilings_or_says_what_is_missing() -> None:
    """3.02 MB over a stream of 30.2 GB/s take 100 us at least; measured 200 us are half of the roof."""
    target = target_of(lambda: 1, None, WORK, {}, no_cache)
    told = extra_info("t.py::a", target, Asked(tolerance_frac=0.05), MACHINE, 2e-4, {"counters": {}})
    assert told["fraction_of_roof"] == pytest.approx(0.5, rel=0.02)
    assert (told["flops"], told["bytes_compulsory"], told["lookups"]) == (1000, 3_020_000, 40.0)
    assert (told["fingerprint"], told["tolerance_frac"], told["metric"]) == ("a1b2c3d4e5f6", 0.05, "median")
    bare = msgspec.structs.replace(MACHINE, ceilings={})
    for found, wanted in (
        (extra_info("t", target, Asked(), bare, 1.0, None), NO_CEILINGS),
        (extra_info("t", target_of(len, [()], None, {}, no_cache), Asked(), MACHINE, 1.0, None), NO_WORK),
        (extra_info("t", target, Asked(), MACHINE, None, None), "nothing was timed"),
    ):
        assert (found["fraction_of_roof"], found["fraction_of_roof_missing"]) == (None, wanted)
        assert "counters" not in found


def test_a_tests_tolerance_is_the_gates_target() -> None:
    quick = presets.load("quick")
    assert presets.with_target(quick, None) == quick
    finer = presets.with_target(quick, 0.03)
    assert (finer.target_frac, finer.min_effect_frac) == (0.03, 0.015)
    assert presets.with_target(quick, 0.2).min_effect_frac == quick.min_effect_frac


def test_a_budget_fails_a_test_but_not_an_epoch_of_a_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = SimpleNamespace(stats=SimpleNamespace(stats=SimpleNamespace(median=2e-3)), extra_info={})
    request: Any = SimpleNamespace(node=SimpleNamespace(nodeid="t.py::a"))
    fixture = DlrmBenchmark(request, measured)
    target, wanted = target_of(len, [()], None, {}, no_cache), Asked(budget_s=1e-3)
    monkeypatch.delenv("DLRM_GATE_SIDE", raising=False)
    with pytest.raises(pytest.fail.Exception, match="is above the budget"):
        fixture._tell(target, wanted, MACHINE, None)
    monkeypatch.setenv("DLRM_GATE_SIDE", "asked.json")
    fixture._tell(target, wanted, MACHINE, None)
    assert measured.extra_info["metric"] == "median"
