"""The gate over a pytest suite: fresh pytest processes of both sides in turn; one file of one process is one epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.gate.epochs import SIDES, watched
from bench.gate.ledger import CONTROLS, STEAL_FRAC
from bench.gate.log import Blocks, Counted, EpochPlan, Failed, GateManifest, Line, MarkerAsk, SideName
from bench.gate.pytest_process import PytestCall, PytestResult, measuring_tests, run_pytest
from bench.gate.run import GateRun, Observer
from bench.gate.side import Checkout, SideLostError
from bench.gate.suite import SuiteCase
from bench.records import Case

Emit = Callable[[Line], None]
CONTROL_NAMES = tuple(name.partition(":")[2] for name in CONTROLS)


def collect(
    checkouts: Mapping[SideName, Checkout], arguments: Sequence[str], folder: Path
) -> tuple[tuple[SuiteCase, ...], dict[str, MarkerAsk]]:
    """The tests that measure, on every side, and what head's markers ask. A file that cannot be imported is a case.

    Raises SideLostError where pytest itself cannot run.
    """
    call = PytestCall(arguments=tuple(arguments), collect_only=True)
    found = {side: run_pytest(c, call, folder, f"{side}-collect") for side, c in checkouts.items()}
    broken = sorted({file for result in found.values() for file in result.errors})
    names = {side: measuring_tests(result, broken) for side, result in found.items()}
    head, base = names["head"], names.get("base", names["head"])
    cases = [_case(name, name in base, name in head) for name in dict.fromkeys((*head, *base))]
    cases += [_case(file, True, True) for file in broken]
    return tuple(cases), {name: _ask(marks) for name, marks in found["head"].tests.items()}


def _case(name: str, base: bool, head: bool) -> SuiteCase:
    case = Case(code=name)
    return SuiteCase(name=name, base=case if base else None, head=case if head else None)


def _ask(marks: Mapping[str, Any]) -> MarkerAsk:
    """A tolerance that is none is for the test itself to refuse."""
    given = marks.get("tolerance")
    usable = isinstance(given, int | float) and not isinstance(given, bool) and 0 < given < 1
    return MarkerAsk(tolerance_frac=float(given) if usable and given is not None else None)


class PytestRun(GateRun):
    """Runs what a log still lacks, with pytest as the runner."""

    def __init__(
        self,
        run_dir: Path,
        manifest: GateManifest,
        checkouts: Mapping[SideName, Checkout],
        observer: Observer,
        base_lines: Sequence[Counted] = (),
    ) -> None:
        super().__init__(run_dir, manifest, checkouts, {}, observer, base_lines)

    def _count_cases(self, emit: Emit) -> None:
        """Every test once on every side, its counters where it uses our fixture."""
        call = PytestCall(arguments=self._manifest.pytest_args, count=True)
        for side, checkout in self._checkouts.items():
            names = [c.name for c in self._manifest.cases if (c.base if side == "base" else c.head) is not None]
            try:
                result = run_pytest(checkout, call, self._logs, f"{side}-0")
            except SideLostError as lost:
                for name in names:
                    emit(Counted(case=name, side=side, outcome="error", message=str(lost), detail=lost.log))
                continue
            for name in names:
                emit(counted(name, side, result))

    def _run_epoch(self, plan: EpochPlan, emit: Emit) -> None:
        """Both sides' processes one after the other; a test that fails on one of them is told."""
        steal: list[float] = []
        throttled: list[float] = []
        found: dict[SideName, PytestResult] = {}
        began = time.perf_counter()
        with watched(steal, throttled):
            for side in sorted(SIDES, key=lambda s: s != plan.first):
                name = f"{side}-{plan.epoch}"
                try:
                    found[side] = run_pytest(self._checkouts[side], self._call(plan, side), self._logs, name)
                except SideLostError as lost:
                    for case in (c for c in plan.order if c not in CONTROLS):
                        told = str(lost)
                        emit(Failed(epoch=plan.epoch, case=case, side=side, message=told, detail=lost.log))
                    return
        # Over whole processes, imports and all, as a share: one short stop is not the end of an epoch.
        stopped_s = throttled[0] if throttled[0] > STEAL_FRAC * (time.perf_counter() - began) else 0.0
        for case in plan.order:
            emit(_line(plan, case, found, steal[0], stopped_s))

    def _call(self, plan: EpochPlan, side: SideName) -> PytestCall:
        return PytestCall(
            arguments=self._manifest.pytest_args,
            timed=True,
            wanted=tuple(case for case in plan.order if case not in CONTROLS),
            controls=CONTROL_NAMES,
            padding_bytes=plan.padding_bytes[SIDES.index(side)],
            hash_seed=plan.seed,
        )


def counted(name: str, side: SideName, result: PytestResult) -> Counted:
    """How a test, or the import of its file, ended on a side."""
    if name in result.errors:
        told = result.errors[name]
        return Counted(case=name, side=side, outcome="error", message=_last_line(told), detail=told)
    if result.foreign is not None:
        told = f"{result.foreign} was imported from the working tree, not from this side's checkout"
        return Counted(case=name, side=side, outcome="error", message=told)
    ended = result.ended.get(name)
    if ended is None:
        whole = name.partition("::")[0] == name
        return Counted(case=name, side=side, outcome="ok" if whole else "absent", message="pytest did not run it")
    if ended.outcome == "skipped":
        return Counted(case=name, side=side, outcome="skipped", message=_last_line(ended.told))
    if ended.outcome == "failed":
        return Counted(case=name, side=side, outcome="error", message=_last_line(ended.told), detail=ended.told)
    found = result.counters.get(name, {})
    return Counted(
        case=name,
        side=side,
        outcome="ok",
        counters=found.get("counters", {}),
        unstable=tuple(found.get("unstable", ())),
        torch=found.get("torch") or result.torch,
    )


def _last_line(text: str) -> str:
    """The line of a traceback that says what was wrong: pytest marks it with an E."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [line.removeprefix("E").strip() for line in lines if line.startswith("E ")]
    return (marked or lines or ["it failed"])[-1]


def _line(
    plan: EpochPlan, case: str, found: Mapping[SideName, PytestResult], steal_frac: float, throttled_s: float
) -> Line:
    for side in SIDES:
        ended = found[side].ended.get(case)
        if case not in CONTROLS and (ended is None or ended.outcome != "passed"):
            told = ended.told if ended is not None else "pytest did not run it"
            return Failed(epoch=plan.epoch, case=case, side=side, message=_last_line(told), detail=told)
        if case not in CONTROLS and case not in found[side].times_s:
            told = "it passed without measuring anything: the fixture was never called"
            return Failed(epoch=plan.epoch, case=case, side=side, message=told)
    seconds = {side: _seconds(found[side], case) for side in SIDES}
    return Blocks(
        epoch=plan.epoch,
        case=case,
        steps=1,
        base_s=(seconds["base"],),
        head_s=(seconds["head"],),
        head_first=(plan.first == "head",),
        steal_frac=(steal_frac,),
        throttled_s=(throttled_s,),
    )


def _seconds(result: PytestResult, case: str) -> float | None:
    """None, for the decision to refuse, where it is no number."""
    value = result.controls.get(case.partition(":")[2]) if case in CONTROLS else result.times_s.get(case)
    return value if value is not None and math.isfinite(value) else None
