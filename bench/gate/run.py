"""The loop of a gate run: count, then epoch after epoch as the schedule asks, all logged; resumes where it was."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from bench.gate import schedule
from bench.gate.epochs import Job, count_all, run_epoch
from bench.gate.ledger import CONTROLS, Ledger
from bench.gate.log import Began, Counted, Ended, EpochPlan, GateManifest, Line, SideName, Stopped, Writer, read_lines
from bench.gate.presets import Preset, for_device
from bench.gate.side import Checkout
from bench.gate.suite import SuiteCase, located
from bench.records import Case, Limits
from bench.running.case_inputs import num_batches
from bench.running.request import Request
from profiles.probes.cgroup import usable_cpus

INPUT_BUDGET_S = 1.0
"""Inputs of a case are drawn anew in every epoch: they get this much of time."""


class Observer(Protocol):
    """Told what is being decided."""

    def counting(self, cases: int) -> None:
        """The deterministic pass begins."""
        ...

    def epoch(self, plan: EpochPlan, ledger: Ledger) -> None:
        """An epoch begins."""
        ...

    def line(self, line: Line) -> None:
        """Something was logged."""
        ...


class GateRun:
    """Runs what a log still lacks. inject_frac: a self-test's slow-down of head."""

    def __init__(
        self,
        run_dir: Path,
        manifest: GateManifest,
        checkouts: Mapping[SideName, Checkout],
        skip_reasons: Mapping[str, str],
        observer: Observer,
        base_lines: Sequence[Counted] = (),
        inject_frac: float = 0.0,
    ) -> None:
        self._dir, self._manifest, self._checkouts, self._observer = run_dir, manifest, checkouts, observer
        self._jobs = {c.name: job(c, checkouts, manifest, skip_reasons.get(c.name)) for c in manifest.cases}
        self._controls = {name: control_job(name, manifest.preset) for name in CONTROLS}
        self._base_lines, self._inject_frac = base_lines, inject_frac
        self._logs = run_dir / "logs"

    def run(self) -> list[Line]:
        """Count and time until the schedule asks for nothing more or the budget ends; returns the whole log."""
        self._logs.mkdir(exist_ok=True)
        with Writer(self._dir) as writer:
            lines = read_lines(self._dir)

            def emit(line: Line) -> None:
                writer.add(line)
                lines.append(line)
                self._observer.line(line)

            if not Ledger(lines).counting_done:
                self._count(emit)
            while not self._manifest.counters_only and self._time_one(Ledger(lines), emit):
                pass
        return lines

    def _count(self, emit: Any) -> None:
        began = time.perf_counter()
        self._observer.counting(len(self._manifest.cases))
        for line in self._base_lines:
            emit(line)
        self._count_cases(emit)
        emit(Ended(epoch=0, elapsed_s=time.perf_counter() - began))

    def _time_one(self, ledger: Ledger, emit: Any) -> bool:
        """Run the next epoch; False where none is wanted or there is no time."""
        plan = schedule.next_plan(self._manifest, ledger)
        if plan is None or ledger.stopped:
            return False
        if schedule.out_of_time(self._manifest, ledger):
            emit(Stopped(elapsed_s=ledger.elapsed_s))
            return False
        began = time.perf_counter()
        self._observer.epoch(plan, ledger)
        emit(Began(plan=plan))
        self._run_epoch(plan, emit)
        emit(Ended(epoch=plan.epoch, elapsed_s=time.perf_counter() - began))
        return True

    def _count_cases(self, emit: Any) -> None:
        """Every case once on every side."""
        count_all(self._checkouts, list(self._jobs.values()), self._logs, emit)

    def _run_epoch(self, plan: EpochPlan, emit: Any) -> None:
        """One difference for every case of the plan."""
        jobs = self._jobs | self._controls
        run_epoch(plan, self._checkouts, jobs, self._logs, emit, inject_frac=self._inject_frac)


def job(
    case: SuiteCase, checkouts: Mapping[SideName, Checkout], manifest: GateManifest, skip_reason: str | None
) -> Job:
    """How the sides are asked to build a case."""
    device = case.head.device if case.head else "cpu"
    return Job(
        name=case.name,
        base=_request(case.base, checkouts.get("base"), manifest.llc_bytes),
        head=_request(case.head, checkouts.get("head"), manifest.llc_bytes),
        preset=for_device(manifest.preset, device),
        on_cuda=device.startswith("cuda"),
        skip_reason=skip_reason,
    )


def _request(case: Case | None, checkout: Checkout | None, llc_bytes: int) -> dict[str, Any] | None:
    if case is None or checkout is None:
        return None
    plain = {"num_threads": case.num_threads or usable_cpus(), "seed": case.seed}
    if case.code is not None:
        return plain | {"code": located(case.code, checkout.root)}
    batches = num_batches(Request(case=case, limits=Limits(budget_s=INPUT_BUDGET_S), llc_bytes=llc_bytes))
    return plain | {"case": msgspec.to_builtins(case), "num_batches": batches}


def control_job(name: str, preset: Preset) -> Job:
    """A null control: the same request to both sides."""
    request = {"control": name.partition(":")[2]}
    return Job(name=name, base=request, head=request, preset=preset)
