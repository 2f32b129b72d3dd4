"""Running both sides: the pass that counts, and an epoch that times. Everything found is a line of the log."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec

from bench.gate.ledger import CONTROLS
from bench.gate.log import Blocks, Counted, EpochPlan, Failed, Line, SideName
from bench.gate.presets import DISCARDED_STEPS, MIN_LAUNCHES, Preset
from bench.gate.schedule import pair_order
from bench.gate.side import Checkout, Side, SideLostError
from profiles.probes.cgroup import read_throttled_s
from profiles.probes.load import CpuTimes, fractions, read_stat

HELLO_TIMEOUT_S = 120.0
BUILD_TIMEOUT_S = 300.0
BLOCK_TIMEOUT_S = 120.0
MOST_UNIT_STEPS = 1000
MODEL_MODULES = ("workloads.batch", "workloads.models", "workloads.reference", "workloads.steps")
SIDES: tuple[SideName, SideName] = ("base", "head")
Emit = Callable[[Line], None]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A case as the sides are asked to build it: one request each (None: this side does not have it)."""

    name: str
    base: dict[str, Any] | None
    head: dict[str, Any] | None
    preset: Preset
    on_cuda: bool = False
    skip_reason: str | None = None

    @property
    def of_model(self) -> bool:
        """Whether a side builds it from its `workloads`."""
        return any(request is not None and "case" in request for request in (self.base, self.head))

    def request(self, side: SideName) -> dict[str, Any] | None:
        """What to ask of this side."""
        return self.base if side == "base" else self.head


class Both:
    """Both sides' processes, both parked. A side that was lost is started afresh when it is next used."""

    def __init__(
        self, checkouts: Mapping[SideName, Checkout], logs: Path, plan: EpochPlan | None, jobs: Iterable[Job]
    ) -> None:
        self._checkouts, self._logs, self._plan = checkouts, logs, plan
        self._preload = MODEL_MODULES if any(job.of_model for job in jobs) else ()
        self._sides: dict[SideName, Side] = {}

    def __enter__(self) -> Both:
        first: SideName = self._plan.first if self._plan else "base"
        try:
            for name in sorted(self._checkouts, key=lambda n: n != first):
                self._sides[name] = self._start(name)
            for name in list(self._sides):
                self._greet(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for side in self._sides.values():
            side.close()

    def _start(self, name: SideName) -> Side:
        plan = self._plan
        padding = plan.padding_bytes[SIDES.index(name)] if plan else 0
        log = self._logs / f"{name}-{plan.epoch if plan else 0}.log"
        return Side(self._checkouts[name], log, padding, hash_seed=plan.seed if plan else 0, preload=self._preload)

    def _greet(self, name: SideName) -> None:
        try:
            self._sides[name].ask("hello", HELLO_TIMEOUT_S)
            self._sides[name].park()
        except SideLostError:
            self._sides.pop(name).close()
            raise

    def ask(self, name: SideName, do: str, timeout_s: float, **request: Any) -> dict[str, Any]:
        """Wake a side, ask, park it again. Raises SideLostError, after which the side is fresh."""
        if name not in self._sides:
            self._sides[name] = self._start(name)
            self._greet(name)
        side = self._sides[name]
        side.wake()
        try:
            answer = side.ask(do, timeout_s, **request)
        except SideLostError:
            self._sides.pop(name).close()
            raise
        side.park()
        return answer


def count_all(checkouts: Mapping[SideName, Checkout], jobs: Sequence[Job], logs: Path, emit: Emit) -> None:
    """The deterministic tier: every case once on every side that has it; what does not build is found here."""
    with Both(checkouts, logs, None, jobs) as both:
        for job in jobs:
            for side in checkouts:
                if job.request(side) is not None:
                    emit(_count(both, job, side))


def _count(both: Both, job: Job, side: SideName) -> Counted:
    if job.skip_reason is not None:
        return Counted(case=job.name, side=side, outcome="skipped", message=job.skip_reason)
    try:
        built = both.ask(side, "build", BUILD_TIMEOUT_S, **(job.request(side) or {}))
        if "absent" in built:
            return Counted(case=job.name, side=side, outcome="absent", message=built["absent"])
        problem = _problem(built)
        found = {} if problem else both.ask(side, "counters", BUILD_TIMEOUT_S)
        problem = problem or _problem(found)
        both.ask(side, "drop", BUILD_TIMEOUT_S)
    except SideLostError as lost:
        return Counted(case=job.name, side=side, outcome="error", message=str(lost), detail=lost.log)
    if problem:
        return Counted(case=job.name, side=side, outcome="error", message=problem[0], detail=problem[1])
    return Counted(
        case=job.name,
        side=side,
        outcome="ok",
        step_s=built["step_s"],
        counters=found["counters"],
        unstable=tuple(found["unstable"]),
        torch=found.get("torch"),
    )


def _problem(answer: Mapping[str, Any]) -> tuple[str, str] | None:
    """(message, traceback) where an answer is no success."""
    if "error" in answer or "absent" in answer:
        return str(answer.get("error") or answer["absent"]), str(answer.get("traceback", ""))
    if answer.get("nan"):
        return "the step's output holds NaN: a wrong result is never fast", ""
    step_s = answer.get("step_s", 1.0)
    if not (math.isfinite(step_s) and step_s > 0):
        return f"the step's time is {step_s}, not a positive number of seconds", ""
    return None


def run_epoch(
    plan: EpochPlan,
    checkouts: Mapping[SideName, Checkout],
    jobs: Mapping[str, Job],
    logs: Path,
    emit: Emit,
    *,
    inject_frac: float = 0.0,
) -> None:
    """Time every case of the plan. inject_frac: head runs this share of steps more than it counts (a self-test).

    Where a side cannot be started, every case of the plan has failed on it.
    """
    with contextlib.ExitStack() as stack:
        try:
            both = stack.enter_context(Both(checkouts, logs, plan, [jobs[name] for name in plan.order]))
        except SideLostError as lost:
            for name in plan.order:
                if name not in CONTROLS:
                    emit(_failed(plan, name, lost, plan.first))
            return
        for name in plan.order:
            emit(_epoch_case(plan, both, jobs[name], 0.0 if name in CONTROLS else inject_frac))


def _failed(plan: EpochPlan, case: str, lost: SideLostError, otherwise: SideName) -> Failed:
    side = next((s for s in SIDES if f"the {s} side" in str(lost)), otherwise)
    return Failed(epoch=plan.epoch, case=case, side=side, message=str(lost), detail=lost.log)


def _epoch_case(plan: EpochPlan, both: Both, job: Job, inject_frac: float) -> Line:
    chance = random.Random(f"{plan.seed}/{job.name}/build")
    order: list[SideName] = list(SIDES)
    chance.shuffle(order)
    side: SideName = order[0]
    try:
        step_s = []
        for side in order:
            built = both.ask(side, "build", BUILD_TIMEOUT_S, **(job.request(side) or {}))
            problem = _problem(built)
            if problem:
                return Failed(epoch=plan.epoch, case=job.name, side=side, message=problem[0], detail=problem[1])
            step_s.append(built["step_s"])
        blocks = _block_pairs(plan, both, job, min(step_s), inject_frac)
        for side in order:
            both.ask(side, "drop", BUILD_TIMEOUT_S)
    except SideLostError as lost:
        return _failed(plan, job.name, lost, side)
    return blocks


def steps_per_block(step_s: float, preset: Preset, on_cuda: bool) -> int:
    """Enough steps of the faster side to fill a block, the same number on both."""
    return max(math.ceil(preset.block_s / step_s), MIN_LAUNCHES if on_cuda else 1)


def injected(steps: int, inject_frac: float) -> tuple[int, int]:
    """(steps of a block, steps that head runs and does not count): the second exactly inject_frac of the first.

    At least `steps`, raised to the next number of which the share is whole. ValueError where that is a number of over
    1,000 even for one step, or for a share that is no positive number; (steps, 0) without an injection.
    """
    if not inject_frac:
        return steps, 0
    if not math.isfinite(inject_frac) or inject_frac < 0:
        raise ValueError(f"{inject_frac:g} is no share of steps: a positive number is wanted, like 0.05 for 5 %")
    share = Fraction(inject_frac).limit_denominator(MOST_UNIT_STEPS)
    if not share or not math.isclose(share, inject_frac):
        raise ValueError(f"{inject_frac:g} is no share of {MOST_UNIT_STEPS} steps or fewer; 0.05 is 1 in 20")
    unit = share.denominator
    whole = math.ceil(steps / unit) * unit
    return whole, int(whole * share)


def _block_pairs(plan: EpochPlan, both: Both, job: Job, step_s: float, inject_frac: float) -> Line:
    steps, extra = injected(steps_per_block(step_s, job.preset, job.on_cuda), inject_frac)
    order = pair_order(plan, job.name, job.preset.pairs)
    times: dict[SideName, list[float]] = {"base": [], "head": []}
    faults = {"base": 0, "head": 0}
    steal: list[float] = []
    throttled: list[float] = []
    for number, head_first in enumerate(order):
        with watched(steal, throttled):
            pair: tuple[SideName, SideName] = ("head", "base") if head_first else ("base", "head")
            for side in pair:
                answer = both.ask(
                    side,
                    "block",
                    BLOCK_TIMEOUT_S + 2 * steps * step_s,
                    steps=steps,
                    first=number * steps,
                    discard=DISCARDED_STEPS,
                    extra=extra if side == "head" else 0,
                )
                problem = _problem(answer)
                if problem:
                    return Failed(epoch=plan.epoch, case=job.name, side=side, message=problem[0], detail=problem[1])
                times[side].append(answer["step_s"])
                faults[side] += answer["faults"]
    return Blocks(
        epoch=plan.epoch,
        case=job.name,
        steps=steps,
        base_s=tuple(times["base"]),
        head_s=tuple(times["head"]),
        head_first=order,
        steal_frac=tuple(steal),
        throttled_s=tuple(throttled),
        faults=(faults["base"], faults["head"]),
    )


@contextlib.contextmanager
def watched(steal: list[float], throttled: list[float]) -> Iterator[None]:
    """Notes what the machine took away meanwhile: the share of stolen time, seconds of quota throttling."""
    before, waited = read_stat(), read_throttled_s() or 0.0
    yield
    after = read_stat()
    steal.append(_stolen(before, after))
    throttled.append(max(0.0, (read_throttled_s() or 0.0) - waited))


def _stolen(before: CpuTimes | None, after: CpuTimes | None) -> float:
    return fractions(before, after)[1] if before and after and after.total > before.total else 0.0
