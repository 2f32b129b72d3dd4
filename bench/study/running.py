"""Trials of a run: what each needs, then one after the other in workers, each saved before the next. Resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench import store
from bench.plan import MEMORY_SHARE, gib
from bench.records import TRIAL_SCHEMA_VERSION, Manifest, Outcome, QualityTrial
from bench.running.environment import environment
from bench.running.pool import Pool
from bench.study.quality import ENTRY, Learned
from bench.study.sizing import forward_flops_per_sample
from bench.study.spec import Trial
from bench.sweep import Observer, failure, now, require_room
from workloads import models

FLOPS_PER_S = 6e10
SECONDS_PER_SAMPLE = 1.5e-6
FIXED_S = 0.5
TRAIN_OVER_FORWARD = 3
RATES_TRIED = 3
"""Learning rates that a trial is trained with, as a rule: the best and one on either side."""


class PlannedTrial(msgspec.Struct, frozen=True, kw_only=True):
    """One trial of the plan. `skip_reason` is None where it can run."""

    key: str
    trial: Trial
    flops_per_sample_forward: float
    memory_bytes: int
    estimate_s: float
    skip_reason: str | None = None


def plan_trials(trials: Sequence[Trial], available_bytes: int) -> list[PlannedTrial]:
    """The trials with what each needs; nothing is run."""
    return [_plan_one(trial, available_bytes) for trial in trials]


def _plan_one(trial: Trial, available_bytes: int) -> PlannedTrial:
    flops, needed = forward_flops_per_sample(trial.model), memory_bytes(trial)
    usable = int(MEMORY_SHARE * available_bytes)
    fits = needed <= usable
    return PlannedTrial(
        key=trial.key(),
        trial=trial,
        flops_per_sample_forward=flops,
        memory_bytes=needed,
        estimate_s=estimate_s(trial, flops) if fits else 0.0,
        skip_reason=None if fits else f"needs {gib(needed)} of memory, but only {gib(usable)} may be used",
    )


def memory_bytes(trial: Trial) -> int:
    """Samples as drawn, held-out ones as prepared too; the truth; parameters, gradients, Adam's two states."""
    training, log = trial.training, trial.log
    per_sample = 2 * 8 * log.num_features + 4 * log.num_dense + 4
    held_out = training.validation_samples + training.test_samples
    truth = 8 * log.num_features * log.num_rows * (log.rank + 2)
    return per_sample * (training.train_samples + 2 * held_out) + truth + 4 * 4 * models.count_parameters(trial.model)


def estimate_s(trial: Trial, flops: float) -> float:
    """Seconds a trial is expected to take: samples drawn once, then trained and evaluated on with three rates."""
    training = trial.training
    per_pass = training.train_samples * TRAIN_OVER_FORWARD + training.test_samples * training.evaluations
    computing = (
        min(len(training.learning_rates), RATES_TRIED)
        * per_pass
        * (flops / FLOPS_PER_S + SECONDS_PER_SAMPLE / TRAIN_OVER_FORWARD)
    )
    return FIXED_S + training.train_samples * SECONDS_PER_SAMPLE + computing


class _Listener:
    """Takes a worker's events."""

    def __init__(self, on_phase: Callable[[str], None]) -> None:
        self._on_phase = on_phase
        self.phase = "start"
        self.learned: Learned | None = None

    def __call__(self, kind: str, body: dict[str, Any]) -> None:
        if kind == "phase":
            self.phase = str(body["phase"])
            self._on_phase(self.phase)
        elif kind == "learned":
            self.learned = msgspec.convert(body, Learned)


class TrialRunner:
    """Runs planned trials of one run folder and appends what came out. `first` is how many jobs came before."""

    def __init__(self, run_dir: Path, manifest: Manifest, pool: Pool, observer: Observer, first: int = 0) -> None:
        self._dir, self._pool, self._observer, self._first = run_dir, pool, observer, first
        self._timeout_s = manifest.limits.timeout_s

    def run(self, planned: Sequence[PlannedTrial]) -> None:
        """Run what has no line yet; all are on disk when it returns."""
        if not planned:
            return
        keys = store.recorded_keys(self._dir)
        with store.Appender(self._dir, store.TRIALS) as out:
            for number, one in enumerate(planned, self._first + 1):
                if one.key in keys:
                    continue
                self._observer.started(number, self._first + len(planned), one)
                trial = self._skipped(one) if one.skip_reason else self._trained(one)
                out.add(trial)
                self._observer.ended(trial)

    def _skipped(self, planned: PlannedTrial) -> QualityTrial:
        return _trial(planned, Outcome(status="skipped", reason=planned.skip_reason), now(), 0.0)

    def _trained(self, planned: PlannedTrial) -> QualityTrial:
        started_at, began = now(), time.perf_counter()
        listener = _Listener(self._observer.phase)
        server = self._pool.server(environment("pinned", True))
        ending = server.run(ENTRY, planned.trial, listener, self._timeout_s)
        require_room(ending, self._dir)
        total_s, learned = time.perf_counter() - began, listener.learned
        if learned is None or ending.kind != "ok":
            return _trial(planned, failure(ending, listener.phase), started_at, total_s)
        return _trial(planned, Outcome(status="ok"), started_at, total_s, **msgspec.structs.asdict(learned))


def _trial(planned: PlannedTrial, outcome: Outcome, started_at: str, total_s: float, **learned: Any) -> QualityTrial:
    trial = planned.trial
    return QualityTrial(
        schema_version=TRIAL_SCHEMA_VERSION,
        key=planned.key,
        log=trial.log.kind,
        click_log=trial.log,
        model=trial.model,
        seed=trial.seed,
        budget_flops=trial.budget_flops,
        outcome=outcome,
        params=models.count_parameters(trial.model),
        flops_per_sample_forward=planned.flops_per_sample_forward,
        started_at=started_at,
        total_s=total_s,
        **learned,
    )
