"""Two traces, or two sets of ranks, against each other: part by part, step by step. Pure decisions.

Per part the steps of both sides are two samples; the change is the median of all ratios candidate / baseline, its
interval the exact one of the rank-sum test, at a level that holds for all parts together. docs/method/components.md
says what the steps of one run can tell and what only further runs can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log, log1p
from typing import NamedTuple

import msgspec
import numpy as np

from bench.inspection.against_result import Comparison, Counter, KernelChange, Row, Side
from bench.inspection.ranksum import least_p, shift
from bench.inspection.same_rank import same_rank
from profiles.trace.columns import Int64, Trace
from profiles.trace.merging import merged, partial_counters
from profiles.trace.stepwise import Part, StepProfile

ALPHA = 0.05
"""The chance that a comparison without a change shows one in any time, and again in any count that varies."""
LEAST_EFFECT_FRAC = 0.01
"""GPU compute of one job varied by 0.05-0.55 % per step from window to window: less than 1 % is no change."""
WAITING_EFFECT_FRAC = 0.15
"""Collectives and copies hold waiting for ranks and for the host: 15 %."""
WALL_EFFECT_FRAC = 0.30
"""Step time on the host differed by 1-28 % between windows of unchanged jobs."""
_HOST = "host time of one process a side: modes between processes exceed the scatter of steps"
LEAST_SHARE = 0.01
"""A part with less of the whole on both sides is shown and not judged."""
MOST_KERNELS = 12
ALL = "all"
WALL = "step (wall)"
IDLE = "idle"


class Profiled(msgspec.Struct, frozen=True, kw_only=True):
    """One trace, as far as a comparison needs it."""

    file: str
    rank: int | None
    devices: tuple[str, ...]
    world_size: int | None
    profile: StepProfile


def profiled(trace: Trace, profile: StepProfile) -> Profiled:
    """The trace's identity beside its steps."""
    size = trace.metadata.distributed.get("world_size")
    names = tuple(dict.fromkeys(str(d["name"]) for d in trace.metadata.devices if d.get("name")))
    return Profiled(
        file=str(trace.path),
        rank=trace.metadata.rank,
        devices=names,
        world_size=size if isinstance(size, int) else None,
        profile=profile,
    )


def compare(baseline: Sequence[Profiled], candidate: Sequence[Profiled]) -> Comparison:
    """The candidate against the baseline; each side one trace, or the ranks of one job."""
    obstacles = _obstacles(baseline, candidate)
    one, other = merged([p.profile for p in baseline]), merged([p.profile for p in candidate])
    rows = _rows(one, other)
    counters = _counters(one, other)
    partial = list(dict.fromkeys(name for side in (baseline, candidate) for name in _partial(side)))
    if obstacles:
        rows = tuple(msgspec.structs.replace(r, status="not comparable", reason=obstacles[0]) for r in rows)
    return Comparison(
        status=_status(rows, counters, bool(obstacles)),
        reasons=tuple(obstacles) or _limits(one, other, rows, counters, partial),
        baseline=_side(baseline, one),
        candidate=_side(candidate, other),
        rows=rows,
        counters=counters,
        kernels=_kernels(one, other),
    )


def _partial(side: Sequence[Profiled]) -> tuple[str, ...]:
    return partial_counters([p.profile for p in side])


def _obstacles(baseline: Sequence[Profiled], candidate: Sequence[Profiled]) -> list[str]:
    """Why the sides cannot be compared; what neither side says is no obstacle."""
    found = []
    devices = [set().union(*(p.devices for p in side)) for side in (baseline, candidate)]
    if all(devices) and devices[0] != devices[1]:
        found.append(f"different hardware: {_listed(devices[0])} and {_listed(devices[1])}")
    sizes = [{p.world_size for p in side if p.world_size is not None} for side in (baseline, candidate)]
    if all(sizes) and sizes[0] != sizes[1]:
        found.append(f"different world size: {_listed(sizes[0])} and {_listed(sizes[1])}")
    # Windows of one rank would be averaged step by step as if they had run side by side.
    found += dict.fromkeys(told for side in (baseline, candidate) if (told := same_rank(_ranks(side))))
    if len(baseline) != len(candidate):
        found.append(f"different number of traces: {len(baseline)} and {len(candidate)}")
    if len({p.profile.busy_ns is None for p in (*baseline, *candidate)}) > 1:
        found.append("one side has GPU work and the other has none")
    return found


def _ranks(side: Sequence[Profiled]) -> list[tuple[int | None, str]]:
    return [(p.rank, p.file) for p in side]


def _listed(values: set[str] | set[int]) -> str:
    return ", ".join(sorted(map(str, values)))


def _side(traces: Sequence[Profiled], merged: StepProfile) -> Side:
    return Side(
        files=tuple(p.file for p in traces),
        devices=tuple(dict.fromkeys(name for p in traces for name in p.devices)),
        world_size=traces[0].world_size,
        steps=merged.numbers,
        step_us=_median_us(merged.step_ns),
    )


def _median_us(values: Int64) -> float:
    return float(np.median(values)) / 1000


def _rows(one: StepProfile, other: StepProfile) -> tuple[Row, ...]:
    """The parts and their total, the most time first. The level is shared among the rows that are judged."""
    sides = [_with_total(one), _with_total(other)]
    parts = list(dict.fromkeys([*sides[0], *sides[1]]))
    waiting = {part: max(one.waiting_frac.get(part, 0.0), other.waiting_frac.get(part, 0.0)) for part in parts}
    waiting[ALL, ""] = max(_total_waiting(one), _total_waiting(other))
    wholes = [max(float(np.median(side[ALL, ""])), 1.0) for side in sides]
    judged = [p for p in parts if _share(sides, p, wholes) >= LEAST_SHARE]
    # One more than the parts: the wall time of the step is judged too.
    alpha = ALPHA / (len(judged) + 1)
    on_host = one.busy_ns is None
    rows = [
        *(
            _row(part, [side.get(part) for side in sides], waiting[part], alpha if part in judged else None, on_host)
            for part in parts
        ),
        _wall(one.step_ns, other.step_ns, alpha, on_host),
        *_idle(one, other, alpha),
    ]
    return tuple(sorted(rows, key=lambda r: -max(r.baseline_us, r.candidate_us)))


def _with_total(profile: StepProfile) -> dict[Part, Int64]:
    total = np.sum(list(profile.parts.values()), axis=0) if profile.parts else np.zeros(profile.steps, np.int64)
    return {(ALL, ""): total, **profile.parts}


def _total_waiting(profile: StepProfile) -> float:
    whole = sum(float(v.sum()) for v in profile.parts.values()) or 1.0
    return sum(float(v.sum()) * profile.waiting_frac.get(part, 0.0) for part, v in profile.parts.items()) / whole


def _share(sides: Sequence[Mapping[Part, Int64]], part: Part, wholes: Sequence[float]) -> float:
    shares = [float(np.median(s[part])) / whole if part in s else 0.0 for s, whole in zip(sides, wholes, strict=True)]
    return max(shares)


def _row(part: Part, values: Sequence[Int64 | None], waiting: float, alpha: float | None, on_host: bool) -> Row:
    effect = LEAST_EFFECT_FRAC + waiting * (WAITING_EFFECT_FRAC - LEAST_EFFECT_FRAC)
    first, second = values
    found: _Change | None = None
    if first is None or second is None or not np.median(first) or not np.median(second):
        empty = first is None or not np.median(first)
        status, reason = ("new" if empty else "gone"), "only one side has it in most steps; the total decides"
        if alpha is None:
            status, reason = "not judged", _SMALL
    else:
        found = _change(first, second, alpha or ALPHA)
        status, reason = _judged(found, effect, alpha)
        if on_host and alpha is not None:
            status, reason = "undecided", _HOST
    return _shown(part, values, found, None if on_host else effect, status, reason)


_SMALL = f"less than {LEAST_SHARE:.0%} of the whole"


class _Change(NamedTuple):
    """Candidate over baseline less 1, its interval (None where no interval of the level exists), the steps it is of."""

    change: float
    low: float | None
    high: float | None
    steps: tuple[int, int]

    @property
    def apart(self) -> bool:
        """Whether the interval excludes no change."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def _change(first: Int64, second: Int64, alpha: float) -> _Change:
    """Of steps that took some time; at least one on each side does."""
    logs = [[log(v) for v in side.tolist() if v > 0] for side in (first, second)]
    found, steps = shift(logs[0], logs[1], alpha), (len(logs[0]), len(logs[1]))
    if found.low is None or found.high is None:
        return _Change(exp(found.estimate) - 1, None, None, steps)
    return _Change(exp(found.estimate) - 1, exp(found.low) - 1, exp(found.high) - 1, steps)


def _wall(first: Int64, second: Int64, alpha: float, on_host: bool) -> Row:
    """The step as the host sees it: what the program's own code, or waiting, adds lies in no part of the GPU."""
    found = _change(first, second, alpha) if np.median(first) and np.median(second) else None
    if found is None:
        status, reason = "not judged", "the steps have no length"
    elif on_host:
        status, reason = "undecided", _HOST
    else:
        status, reason = _judged(found, WALL_EFFECT_FRAC, alpha)
        if status == "no change" and found.apart and abs(log1p(found.change)) >= log1p(LEAST_EFFECT_FRAC):
            status, reason = "undecided", f"{found.change:+.1%}, more than the noise of the steps, {_WITHIN}"
    return _shown((WALL, ""), (first, second), found, None if on_host else WALL_EFFECT_FRAC, status, reason)


_WITHIN = f"but steps of unchanged jobs differ by up to {WALL_EFFECT_FRAC:.0%} from process to process"


def _idle(one: StepProfile, other: StepProfile, alpha: float) -> tuple[Row, ...]:
    """What of the step no GPU work of its own fills: explains the wall time, so is not judged a second time."""
    if one.busy_ns is None or other.busy_ns is None:
        return ()
    # Work that a step launched may run on after it: less than nothing is not idle.
    first, second = np.maximum(one.step_ns - one.busy_ns, 0), np.maximum(other.step_ns - other.busy_ns, 0)
    found = _change(first, second, alpha) if np.median(first) and np.median(second) else None
    return (_shown((IDLE, ""), (first, second), found, None, "not judged", f"{WALL} decides"),)


def _shown(
    part: Part, values: Sequence[Int64 | None], found: _Change | None, effect: float | None, status: str, reason: str
) -> Row:
    baseline_us, candidate_us = (0.0 if side is None else _median_us(side) for side in values)
    return Row(
        component=part[0],
        phase=part[1],
        baseline_us=baseline_us,
        candidate_us=candidate_us,
        change_frac=None if found is None else found.change,
        low_frac=None if found is None else found.low,
        high_frac=None if found is None else found.high,
        least_effect_frac=effect,
        status=status,
        reason=reason,
    )


def _judged(found: _Change, effect: float, alpha: float | None) -> tuple[str, str]:
    """(status, reason)."""
    change, low, high, steps = found
    if alpha is None:
        return "not judged", _SMALL
    if low is None or high is None:
        best = f"{steps[0]} and {steps[1]} steps can show at best p = {least_p(*steps):.2g} and {alpha:.2g} is needed"
        return "undecided", f"too few steps for a noise bound: {best}"
    # Ratios, not differences, so that exchanging the sides changes nothing but the sign.
    least = log1p(effect)
    small = abs(log1p(change)) < least
    if found.apart and not small:
        return ("regression" if change > 0 else "improvement"), "outside the noise of the steps"
    if small and (found.apart or max(-log1p(low), log1p(high)) <= least):
        return "no change", f"less than {effect:.1%}"
    return "undecided", f"the steps scatter too much to tell a change of {effect:.1%}"


def _counters(one: StepProfile, other: StepProfile) -> tuple[Counter, ...]:
    """Counts that both sides have. Those that vary from step to step share a level of their own."""
    pairs = {
        name: (one.counters[name].tolist(), other.counters[name].tolist())
        for name in one.counters
        if name in other.counters
    }
    varying = sum(not _repeats(*pair) for pair in pairs.values())
    return tuple(_counter(name, *pair, ALPHA / max(varying, 1)) for name, pair in pairs.items())


def _repeats(first: list[int], second: list[int]) -> bool:
    """Whether each side had one count in all of at least two steps: one step does not tell what the next one counts."""
    return min(len(first), len(second)) > 1 and len(set(first)) == len(set(second)) == 1


def _counter(name: str, first: list[int], second: list[int], alpha: float) -> Counter:
    if set(first) == set(second) and len(set(first)) == 1:
        status = "equal"
    elif _repeats(first, second):
        status = "more" if second[0] > first[0] else "fewer"
    else:
        status = _by_ranks(first, second, alpha)
    return Counter(name=name, baseline=tuple(first), candidate=tuple(second), status=status)


def _by_ranks(first: list[int], second: list[int], alpha: float) -> str:
    """Of counts that vary, or of one step."""
    found = shift(first, second, alpha)
    if found.low is not None and found.low > 0:
        return "more"
    if found.high is not None and found.high < 0:
        return "fewer"
    apart = min(second) > max(first) or max(second) < min(first)
    return "undecided" if apart else "overlapping"


def _kernels(one: StepProfile, other: StepProfile) -> tuple[KernelChange, ...]:
    """The kernels whose medians differ most."""
    changes = [
        KernelChange(name=name, baseline_us=_of(one, name), candidate_us=_of(other, name))
        for name in dict.fromkeys([*one.kernels, *other.kernels])
    ]
    return tuple(sorted(changes, key=lambda k: -abs(k.candidate_us - k.baseline_us))[:MOST_KERNELS])


def _of(profile: StepProfile, name: str) -> float:
    return _median_us(profile.kernels[name]) if name in profile.kernels else 0.0


def _status(rows: Sequence[Row], counters: Sequence[Counter], hindered: bool) -> str:
    """The worst that was found."""
    if hindered:
        return "not comparable"
    found = {r.status for r in rows}
    if "regression" in found or any(c.status == "more" for c in counters):
        return "regression"
    if "improvement" in found or any(c.status == "fewer" for c in counters):
        return "improvement"
    return "undecided" if "undecided" in found | {c.status for c in counters} else "no change"


def _limits(
    one: StepProfile, other: StepProfile, rows: Sequence[Row], counters: Sequence[Counter], partial: Sequence[str]
) -> tuple[str, ...]:
    """What the reader must know of the evidence."""
    found = [f"{WALL} {r.reason}" for r in rows if r.component == WALL and r.reason.endswith(_WITHIN)]
    if one.busy_ns is None and any(r.reason == _HOST for r in rows):
        found.append(f"{_HOST}, so times are shown and not judged (dlrm-bench gate decides); counts are")
    elif min(one.steps, other.steps) == 1:
        found.append("one step has no spread: times are shown and not judged")
    elif any("too few steps" in r.reason for r in rows):
        found.append("record more steps: with these no noise bound holds for all parts together")
    open_ = [_counted(c.name) for c in counters if c.status == "undecided"]
    if open_:
        found.append(f"too few steps to tell whether counts changed or vary from step to step: {', '.join(open_)}")
    if partial:
        found.append(f"left out, as not all ranks counted them: {', '.join(map(_counted, partial))}")
    if not one.annotated or not other.annotated:
        found.append("no annotated steps: the whole trace counts as one; call profiler.step() after each step")
    return tuple(found)


def _counted(name: str) -> str:
    return name.replace("_", " ")
