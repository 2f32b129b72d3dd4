"""What a test measures, as one call without arguments: a Case, a preset with axes, or any callable."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from bench.records import Case, Limits
from workloads.spec import SpecError
from workloads.work import Work

INPUT_BUDGET_S = 1.0
Call = Callable[[], Any]


class Target(NamedTuple):
    """`once` runs one step on the next input and waits for the GPU where one is in use."""

    once: Call
    plain: Call
    case: Case | None
    work: Work | None
    num_inputs: int


def target_of(
    what: Any, inputs: Sequence[Any] | None, work: Work | None, axes: dict[str, Any], llc_bytes: Callable[[str], int]
) -> Target:
    """Build it; llc_bytes: of a device. Raises SpecError for what means nothing, ValueError for a wrong result."""
    if isinstance(what, str):
        what = _case(what, axes)
    elif axes:
        raise SpecError(
            "axes", ", ".join(axes), "axes belong to a preset's name; give inputs= and work= with a callable"
        )
    if isinstance(what, Case):
        if inputs is not None or work is not None:
            raise SpecError("inputs", "...", "a Case makes its own inputs and counts its own work")
        return _model(what, llc_bytes)
    if not callable(what):
        raise SpecError("target", what, "a preset's name, a Case, or a callable")
    if inputs is None:
        return _target(what, None, work, 1)
    if not inputs:
        raise SpecError("inputs", list(inputs), "at least one input to rotate through")
    feed = itertools.cycle(inputs)
    return _target(lambda: what(next(feed)), None, work, len(inputs))


def _case(preset: str, axes: dict[str, Any]) -> Case:
    from bench.sweep_spec import make_case

    return make_case(preset, None, axes)


def _model(case: Case, llc_bytes: Callable[[str], int]) -> Target:
    """The same building, checking and rotation as the gate's."""
    from bench.gate.loading import from_model
    from bench.gate.suite import not_gated
    from bench.running.case_inputs import num_batches
    from bench.running.request import Request

    if case.model is None:
        raise SpecError("case", case.code, "a case of a model; import a function of your own and give it itself")
    refused = not_gated(case)
    if refused:
        raise SpecError("case", case.key(), refused)
    batches = num_batches(Request(case=case, limits=Limits(budget_s=INPUT_BUDGET_S), llc_bytes=llc_bytes(case.device)))
    plain = {"case": msgspec.to_builtins(case), "num_threads": case.num_threads, "seed": case.seed}
    loaded = from_model(plain | {"num_batches": batches})
    if loaded.check is not None:
        loaded.check()
    feed = loaded.feed(0)
    return _target(lambda: loaded.step(next(feed)), case, loaded.work, len(loaded.inputs))


def _target(call: Call, case: Case | None, work: Work | None, num_inputs: int) -> Target:
    return Target(_synchronised(call), call, case, work, num_inputs)


def _synchronised(call: Call) -> Call:
    """The call, and then the wait for the device, where torch has one in use by the time of the first call."""

    def once() -> Any:
        output = call()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return output

    return once
