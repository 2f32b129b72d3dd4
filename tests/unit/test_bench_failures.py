"""What kind of failure the last words of a worker are."""

from __future__ import annotations

import pytest

from bench.running.pool import Ending
from bench.sweep import failure

CAPTURED = "workloads.executions.ExecutionError: the step could not be captured: "


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (CAPTURED + "CUDA error: operation not permitted when stream is capturing", "not_compiled"),
        (CAPTURED + "CUDA out of memory. Tried to allocate 20.00 GiB.", "out_of_memory"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.", "out_of_memory"),
        # What a kernel asks of shared memory is no want of memory.
        (
            "workloads.executions.ExecutionError: torch.compile: OutOfMemoryError: out of resource: shared memory",
            "not_compiled",
        ),
        ("MemoryError", "out_of_memory"),
        ("bench.running.harness.InvariantError: a forward step records a graph for autograd", "invariant"),
        ("ValueError: no", "error"),
    ],
)
def test_the_kind_of_a_failure_is_told_by_its_reason(reason: str, kind: str) -> None:
    found = failure(Ending(kind="error", reason=reason), "prepare")
    assert (found.status, found.kind) == ("failed", kind)
