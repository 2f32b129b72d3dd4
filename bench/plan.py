"""What a sweep would do: memory and time each case needs, and which cannot run and why. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from bench.errors import UsageError
from bench.records import Case, Limits

FILL_BYTES_PER_S = 1.5e9
FIXED_S = 0.3
LEAST_STEPS = 24
"""Steps of a case however long they take, about: check, warm-up, the six repeats before a budget may end it, trace."""
COMPILE_S = 20.0
"""Order of a cold torch.compile of one DLRM; a plan's time is an estimate, not a promise."""
MEMORY_SHARE = 0.9
MAX_REASONS = 5


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """One case of the plan. `skip_reason` is None where it can run."""

    key: str
    case: Case
    memory_bytes: int
    memory_parts: dict[str, int]
    estimate_s: float
    skip_reason: str | None = None


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan has to know of the machine. `unavailable(case)` is the reason a backend or device cannot serve.

    `device_needed(case)` is the part of `memory_needed(case)` that lies on a GPU, and what is free there; None on CPU.
    """

    memory_available_bytes: int
    unavailable: Callable[[Case], str | None]
    memory_needed: Callable[[Case], dict[str, int]]
    step_s: Callable[[Case], float] = lambda case: 0.0
    """Rough seconds of one step, so that plans with long ones do not read short."""
    device_needed: Callable[[Case], tuple[dict[str, int], int] | None] = lambda case: None


def plan(cases: Sequence[Case], limits: Limits, around: Surroundings) -> list[Planned]:
    """The cases with what each needs; nothing is run."""
    return [_plan_one(case, limits, around) for case in cases]


def require_runnable(planned: Sequence[Planned]) -> None:
    """Raise UsageError where no case can run: with nothing to measure, the reasons are all there is to say."""
    if not planned or not all(p.skip_reason for p in planned):
        return
    reasons = list(dict.fromkeys(str(p.skip_reason) for p in planned))
    told = "\n  ".join(reasons[:MAX_REASONS])
    more = f"\n  and {len(reasons) - MAX_REASONS} reasons more: see --plan" if len(reasons) > MAX_REASONS else ""
    number = "the case" if len(planned) == 1 else f"none of the {len(planned)} cases"
    raise UsageError(f"{number} can{'not' if len(planned) == 1 else ''} run here:\n  {told}{more}")


def _plan_one(case: Case, limits: Limits, around: Surroundings) -> Planned:
    parts = around.memory_needed(case)
    reason = around.unavailable(case)
    if reason is None:
        reason = _too_large(case, parts, around)
    return Planned(
        key=case.key(),
        case=case,
        memory_bytes=sum(parts.values()),
        memory_parts=parts,
        estimate_s=0.0 if reason else estimate_s(parts, limits, around.step_s(case), case.execution),
        skip_reason=reason,
    )


def _too_large(case: Case, parts: dict[str, int], around: Surroundings) -> str | None:
    """What does not fit, on the GPU first where there is one."""
    on_device = around.device_needed(case)
    if on_device is None:
        return _beyond(parts, around.memory_available_bytes, "memory")
    there, free = on_device
    here = {name: size for name, size in parts.items() if name not in there}
    found = _beyond(there, free, f"memory of {case.device}")
    return found or _beyond(here, around.memory_available_bytes, "host memory")


def _beyond(parts: dict[str, int], available: int, what: str) -> str | None:
    needed, usable = sum(parts.values()), int(MEMORY_SHARE * available)
    if needed <= usable:
        return None
    return (
        f"needs {gib(needed)} of {what} ({_largest(parts)}), but only {gib(usable)} may be used "
        f"(90 % of {gib(available)} available); --axis rows_scale=F shrinks the tables"
    )


def estimate_s(parts: dict[str, int], limits: Limits, step_s: float = 0.0, execution: str = "eager") -> float:
    """Seconds a case is expected to take: tables filled, compiled, checked, warmed, measured and traced."""
    touched = sum(parts.values())
    trace_s = 0.5 if limits.trace else 0.0
    compile_s = COMPILE_S if execution == "compile" else 0.0
    measuring_s = max(1.5 * limits.budget_s, LEAST_STEPS * step_s)
    return FIXED_S + touched / FILL_BYTES_PER_S + compile_s + measuring_s + trace_s


def gib(number: float) -> str:
    """Bytes as binary units."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number >= size:
            return f"{number / size:.3g} {unit}" if number < 1000 * size else f"{number / size:.0f} {unit}"
    return f"{number:.0f} B"


def _largest(parts: dict[str, int]) -> str:
    name, size = max(parts.items(), key=lambda item: item[1], default=("nothing", 0))
    return f"{name} {gib(size)}"
