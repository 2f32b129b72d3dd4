"""One trial in its worker: train a model on a click log and see how near it comes to the truth.

Runs in a process of its own (bench/running/pool.py). It sends `phase` as it goes and, at the end, `learned`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bench.records import QualityPoint, RateTry
from bench.running.forkserver import Emit
from bench.study.rates import next_rate
from bench.study.scores import Floats, auc, calibrated, log_loss, prior_log_loss
from bench.study.spec import Trial
from profiles.probes.cgroup import usable_cpus
from workloads.click_log import ClickLog, Stream

if TYPE_CHECKING:
    import torch

    from workloads.batch import Batch
    from workloads.steps import ModelBundle, Prepared

ENTRY = "bench.study.quality:run_trial"
BACKEND = "fused_bag"
EVALUATION_BATCH = 4096


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a QualityTrial that only the worker knows; fields as there."""

    bayes_log_loss: float
    bayes_auc: float
    prior_log_loss: float
    first_order_log_loss: float
    learning_rate: float
    rates: tuple[RateTry, ...]
    curve: tuple[QualityPoint, ...]


class DivergedError(Exception):
    """Training gave numbers that are not finite."""


@dataclass(frozen=True)
class HeldOut:
    """Samples that no training sees: batches, their labels (n,), the truth's logits (n,) and first-order terms (n,)."""

    batches: tuple[Batch, ...]
    labels: Floats
    truth: Floats
    first_order: Floats


def run_trial(payload: bytes, emit: Emit) -> None:
    """Entry of a worker: one Trial in, one Learned out."""
    emit("learned", msgspec.to_builtins(learn(msgspec.json.decode(payload, type=Trial), emit)))


def learn(trial: Trial, emit: Emit) -> Learned:
    """Train with learning rates from the middle of the grid outwards, keep the best on validation samples.

    Raises DivergedError where none is finite.
    """
    import torch

    torch.set_num_threads(trial.training.num_threads or usable_cpus())
    training, log = trial.training, ClickLog(trial.log, trial.seed)
    emit("phase", {"phase": "samples"})
    validation = held_out(log, "validation", training.validation_samples)
    test = held_out(log, "test", training.test_samples)
    samples = [log.clicks("train", number, training.batch_size).batch for number in range(num_batches(trial))]
    found: dict[float, tuple[RateTry, tuple[QualityPoint, ...]]] = {}
    losses: dict[float, float | None] = {}
    while (rate := next_rate(training.learning_rates, losses)) is not None:
        found[rate] = _try(trial, rate, samples, validation, test, emit)
        losses[rate] = found[rate][0].log_loss
    tries = [found[rate] for rate in sorted(found)]
    finite = [(tried, curve) for tried, curve in tries if tried.log_loss is not None]
    if not finite:
        rates = ", ".join(f"{rate:g}" for rate in training.learning_rates)
        raise DivergedError(f"the loss is not finite at any learning rate of {rates}")
    chosen, curve = min(finite, key=lambda one: one[0].log_loss or 0.0)
    return Learned(
        bayes_log_loss=log_loss(test.truth, test.labels),
        bayes_auc=auc(test.truth, test.labels),
        prior_log_loss=prior_log_loss(test.labels),
        first_order_log_loss=log_loss(calibrated(test.first_order, test.labels), test.labels),
        learning_rate=chosen.learning_rate,
        rates=tuple(tried for tried, _ in tries),
        curve=curve,
    )


def num_batches(trial: Trial) -> int:
    """Batches of one pass over the training samples."""
    return max(1, round(trial.training.train_samples / trial.training.batch_size))


def held_out(log: ClickLog, stream: Stream, samples: int) -> HeldOut:
    """The first samples of a stream, in whole batches."""
    size = min(samples, EVALUATION_BATCH)
    made = [log.clicks(stream, number, size) for number in range(round(samples / size))]
    return HeldOut(
        tuple(clicks.batch for clicks in made),
        np.concatenate([clicks.batch.labels for clicks in made]).astype(np.float64),
        np.concatenate([clicks.logits for clicks in made]),
        np.concatenate([clicks.first_order for clicks in made]),
    )


def _try(
    trial: Trial, rate: float, samples: Sequence[Batch], validation: HeldOut, test: HeldOut, emit: Emit
) -> tuple[RateTry, tuple[QualityPoint, ...]]:
    """One pass with one learning rate, and the curve on test samples; log loss None where it diverged."""
    emit("phase", {"phase": f"learning rate {rate:g}"})
    trainer = Trainer(trial, rate)
    tests = trainer.prepare(test.batches)
    curve = []
    for done in trainer.train(samples, evaluation_points(len(samples), trial.training.evaluations)):
        logits = trainer.logits(tests)
        if not np.isfinite(logits).all():
            return RateTry(learning_rate=rate, log_loss=None, train_s=trainer.train_s), ()
        curve.append(
            QualityPoint(
                samples=done * trial.training.batch_size,
                train_s=trainer.train_s,
                log_loss=log_loss(logits, test.labels),
                auc=auc(logits, test.labels),
            )
        )
    found = log_loss(trainer.logits(trainer.prepare(validation.batches)), validation.labels)
    tried = RateTry(learning_rate=rate, log_loss=found if math.isfinite(found) else None, train_s=trainer.train_s)
    return tried, tuple(curve)


def evaluation_points(batches: int, evaluations: int) -> frozenset[int]:
    """After how many batches to evaluate: evenly spread, the last one after all."""
    return frozenset(max(1, round(batches * part / evaluations)) for part in range(1, evaluations + 1))


class Trainer:
    """A model from its first values, and Adam on its tables (the rows that a batch touches) and its dense parameters.

    `train_s` is the time of zero_grad, forward, backward and update so far: neither making nor converting samples nor
    evaluating is in it.
    """

    def __init__(self, trial: Trial, learning_rate: float) -> None:
        import torch

        from workloads.steps import build_model

        self._bundle: ModelBundle = build_model(
            trial.model,
            backend=BACKEND,
            phase="train_step",
            seed=trial.seed,
            num_threads=torch.get_num_threads(),
        )
        self._model, self._rate = self._bundle.model, learning_rate
        tables = list(self._model.embedding.parameters())
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(self._model.dense_parameters(), lr=learning_rate, fused=True),
            torch.optim.SparseAdam(tables, lr=learning_rate),
        ]
        self.train_s = 0.0

    def prepare(self, batches: Sequence[Batch]) -> list[Prepared]:
        """Batches as the model reads them."""
        return [self._bundle.prepare(batch) for batch in batches]

    def train(self, batches: Sequence[Batch], stops: frozenset[int]) -> Iterator[int]:
        """One pass; yields the number of batches done after each of `stops`."""
        for number, batch in enumerate(batches):
            inputs = self._bundle.prepare(batch)
            began = time.perf_counter()
            self._step(inputs, self._rate * (1.0 - number / len(batches)))
            self.train_s += time.perf_counter() - began
            if number + 1 in stops:
                yield number + 1

    def _step(self, inputs: Prepared, rate: float) -> None:
        from torch.nn import functional

        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
        logits = self._model(inputs.dense, inputs.lookups)
        functional.binary_cross_entropy_with_logits(logits, inputs.labels).backward()  # type: ignore[no-untyped-call]
        for optimizer in self._optimizers:
            optimizer.step()

    def logits(self, inputs: Sequence[Prepared]) -> Floats:
        """Logits (n,) of prepared batches."""
        import torch

        with torch.no_grad():
            parts = [self._model(part.dense, part.lookups) for part in inputs]
        found: Floats = torch.cat(parts).double().numpy()
        return found
