"""The wall time of steps by component: every moment once, by hand-made traces."""

from __future__ import annotations

from typing import Any

import pytest

from profiles.trace.components import components
from profiles.trace.gpu import gpu_work
from profiles.trace.rules import load_rules
from profiles.trace.stepparts import BETWEEN, StepParts, step_parts
from tests.traces import call, event, mark, trace_of, work


def parts_of(*events: Any) -> StepParts:
    return step_parts(components(gpu_work(trace_of(list(events))), load_rules()))


def wall(found: StepParts) -> dict[tuple[str, str], tuple[int, int]]:
    return {(p.component, p.phase): (p.wall_ns, p.op_ns) for p in found.parts}


def test_a_forward_step_adds_up() -> None:
    """0-100 the profiler's step, 10-90 ours: 10 embedding annotation around an op of 15, an op of no component of 5."""
    found = parts_of(
        mark("ProfilerStep#0", 0, 100),
        mark("step", 10, 80),
        mark("embedding", 15, 25),
        event("aten::embedding_bag", 20, 15),
        mark("top_mlp", 45, 20),
        event("aten::addmm", 45, 20),
        event("aten::mm", 50, 5),
        event("mine::odd", 70, 5),
    )
    assert wall(found) == {
        ("embedding", "forward"): (25, 15),
        ("top_mlp", "forward"): (20, 20),
        ("other", ""): (5, 5),
        (BETWEEN, ""): (30, 0),
    }
    assert (found.steps, found.step_ns) == (1, 80)
    assert sum(p.wall_ns for p in found.parts) == 80


def test_backward_nodes_belong_to_their_forward_op() -> None:
    node = "autograd::engine::evaluate_function: AddmmBackward0"
    found = parts_of(
        mark("step", 0, 100),
        mark("bottom_mlp", 0, 20),
        event("aten::addmm", 5, 10, sequence=7, forward_thread=0),
        event(node, 50, 30, sequence=7, forward_thread=1),
        event("aten::mm", 55, 10),
    )
    assert wall(found) == {
        ("bottom_mlp", "forward"): (20, 10),
        ("bottom_mlp", "backward"): (30, 30),
        (BETWEEN, ""): (50, 0),
    }


def test_other_threads_and_what_lies_outside_the_steps_do_not_count() -> None:
    found = parts_of(
        mark("step", 0, 50),
        event("aten::mm", 10, 10),
        event("aten::mm", 10, 40, tid=2),
        event("aten::mm", 60, 10),
        mark("step", 100, 50),
        mark("step", 110, 20),
        event("aten::mm", 115, 10),
    )
    assert (found.steps, found.step_ns) == (2, 100)
    assert sum(p.wall_ns for p in found.parts) == 100
    assert sum(p.op_ns for p in found.parts) == 20


def test_on_a_gpu_idle_time_is_between_ops() -> None:
    found = parts_of(
        mark("step", 0, 100),
        mark("embedding", 0, 20),
        call(5, 5, 1),
        call(12, 5, 2),
        work("gather", 20, 30, correlation=1),
        work("gather", 40, 30, correlation=2, stream=8),
        call(200, 5, 3),
        work("later", 210, 30, correlation=3),
    )
    assert wall(found) == {("embedding", "forward"): (50, 50), (BETWEEN, ""): (50, 0)}


def test_a_trace_of_others_has_no_steps_of_ours() -> None:
    with pytest.raises(ValueError, match="capture it with"):
        parts_of(event("aten::mm", 0, 10))
