"""Which part of a trace is looked at. Every output says which policy it used; nothing is dropped by default."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice, pairwise
from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from profiles.trace.columns import NONE, Category, Int64, Trace
from profiles.trace.errors import TraceError
from profiles.trace.gpu import GpuWork
from profiles.trace.links import processes

Policy = Literal["all", "steps", "steps-without-first-and-last"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
STEP_NAME = re.compile(r"ProfilerStep\s*#?\s*([0-9]{1,18})")
_OWN_STEP = "step"
MOST_MISSING = 1000
"""A number may be anything: what lies between two steps is not counted without end."""


class Step(msgspec.Struct, frozen=True):
    """One annotated step on the host. `number` is the profiler's, or counted from 0."""

    number: int
    start_ns: int
    end_ns: int


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """From `start_ns` up to `end_ns`, both None for everything; `steps` are those inside it."""

    policy: Policy
    start_ns: int | None
    end_ns: int | None
    steps: tuple[Step, ...]

    def holds(self, at_ns: Int64) -> NDArray[np.bool_]:
        """Whether moments lie inside."""
        if self.start_ns is None or self.end_ns is None:
            return np.ones(len(at_ns), bool)
        return (at_ns >= self.start_ns) & (at_ns < self.end_ns)


def find_steps(trace: Trace) -> tuple[Step, ...]:
    """The profiler's steps by start (ProfilerStep#N), or else annotations named 'step'.

    Where several processes share a file, a step lasts from the first begin to the last end of its number.
    """
    numbers = {code: int(m[1]) for code, name in enumerate(trace.names) if (m := STEP_NAME.fullmatch(name))}
    codes = np.array(list(numbers), np.int64) if numbers else trace.codes(_OWN_STEP)
    # Traces of 2021 count annotations among the operators.
    rows = trace.rows(Category.ANNOTATION, Category.CPU_OP) if numbers else trace.rows(Category.ANNOTATION)
    rows = rows[np.isin(trace.name[rows], codes)]
    of_process = processes(trace)[trace.lane[rows]]
    found: dict[int, Step] = {}
    for process in np.unique(of_process).tolist():
        for step in _steps_of(trace, rows[of_process == process], numbers):
            known = found.get(step.number, step)
            whole = Step(step.number, min(known.start_ns, step.start_ns), max(known.end_ns, step.end_ns))
            found[step.number] = whole
    return tuple(sorted(found.values(), key=lambda s: s.start_ns))


def _steps_of(trace: Trace, rows: Int64, numbers: Mapping[int, int]) -> Iterable[Step]:
    """The steps of one process; of two with one number the first. `numbers` by the name's code, else they count."""
    found: dict[int, Step] = {}
    for count, row in enumerate(rows.tolist()):
        number = numbers.get(int(trace.name[row]), count)
        start_ns = int(trace.ts_ns[row])
        found.setdefault(number, Step(number, start_ns, start_ns + int(trace.dur_ns[row])))
    return found.values()


def window(trace: Trace, policy: Policy = "all") -> Window:
    """The window of a policy. TraceError where the trace has too few steps for it."""
    steps = find_steps(trace)
    if policy == "all":
        return Window(policy=policy, start_ns=None, end_ns=None, steps=steps)
    need = 1 if policy == "steps" else 3
    if len(steps) < need:
        found = f"has {len(steps)} annotated steps and the window {policy!r} needs {need}"
        raise TraceError(trace.path, f"{found}; use --window all, or call profiler.step() after each step")
    taken = steps if policy == "steps" else steps[1:-1]
    return Window(policy=policy, start_ns=taken[0].start_ns, end_ns=max(s.end_ns for s in taken), steps=taken)


def work_inside(work: GpuWork, within: Window) -> GpuWork:
    """GPU work that was launched inside the window; where no launch is known, that began inside it."""
    known = work.launch != NONE
    at_ns = np.where(known, work.trace.ts_ns[work.launch], work.starts_ns) if len(work) else work.starts_ns
    return work.only(within.holds(at_ns))


def missing_steps(steps: tuple[Step, ...]) -> tuple[int, ...]:
    """Step numbers that are left out between the first and the last, the first MOST_MISSING of them."""
    numbers = sorted({step.number for step in steps})
    holes = (n for before, after in pairwise(numbers) for n in range(before + 1, after))
    return tuple(islice(holes, MOST_MISSING))
