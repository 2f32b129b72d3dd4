"""Sizing, scores, plans and what training makes of a log; the learning tests can fail."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import store
from bench.records import Manifest, QualityTrial
from bench.study.quality import DivergedError, Learned, Trainer, evaluation_points, learn
from bench.study.running import plan_trials
from bench.study.scores import auc, calibrated, log_loss, prior_log_loss
from bench.study.sizing import SIZED, TOLERANCE, UNSIZED, VARIANTS, forward_flops_per_sample, sized_model
from bench.study.spec import Comparison, Quality, Training, Trial, trials
from bench.sweep_spec import load_sweep
from tests import sample_records
from workloads import models
from workloads.click_log import ClickLogSpec
from workloads.spec import SpecError

LOG = ClickLogSpec(num_features=8, num_dense=2, num_rows=20)
TWO = ClickLogSpec(num_features=2, num_rows=50)
TRAINING = Training(
    learning_rates=(0.02,),
    train_samples=8192,
    validation_samples=512,
    test_samples=4096,
    batch_size=512,
    evaluations=2,
    num_threads=1,
)


def brute_force_auc(scores: list[float], labels: list[int]) -> float:
    pairs = [(a, b) for a, c in zip(scores, labels, strict=True) for b, d in zip(scores, labels, strict=True) if c > d]
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)


@given(st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 0.25, 0.5, 3.0]), st.integers(0, 1)), min_size=2, max_size=40))
def test_auc_agrees_with_all_pairs(samples: list[tuple[float, int]]) -> None:
    scores, labels = [s for s, _ in samples], [c for _, c in samples]
    if len(set(labels)) == 1:
        with pytest.raises(ValueError, match="labels are alike"):
            auc(np.array(scores), np.array(labels))
    else:
        assert auc(np.array(scores), np.array(labels)) == pytest.approx(brute_force_auc(scores, labels))


def test_log_losses_by_hand() -> None:
    assert log_loss(np.array([0.0, 0.0]), np.array([0, 1])) == pytest.approx(math.log(2))
    assert log_loss(np.array([1000.0, -1000.0]), np.array([1, 0])) == 0.0
    assert log_loss(np.array([-1000.0]), np.array([1])) == pytest.approx(1000.0)
    assert prior_log_loss(np.array([1, 0, 0, 0])) == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))
    assert prior_log_loss(np.zeros(3)) == 0.0


def test_calibration_finds_the_scale_that_labels_were_drawn_with() -> None:
    draw = np.random.default_rng(3)
    scores = draw.standard_normal(200_000)
    labels = draw.random(scores.size) < 1 / (1 + np.exp(1.0 - 2.0 * scores))
    fitted = calibrated(scores, labels)
    slope = (fitted[1] - fitted[0]) / (scores[1] - scores[0])
    assert slope == pytest.approx(2.0, abs=0.03)
    assert fitted[0] - slope * scores[0] == pytest.approx(-1.0, abs=0.03)
    np.testing.assert_allclose(calibrated(np.zeros(4), np.array([1, 0, 0, 0])), math.log(1 / 3))


@pytest.mark.parametrize("variant", SIZED)
@pytest.mark.parametrize("budget", [8_000, 32_000, 500_000])
def test_every_sized_variant_meets_the_budget(variant: str, budget: float) -> None:
    model = sized_model(variant, LOG, 16, budget)
    assert forward_flops_per_sample(model) == pytest.approx(budget, rel=TOLERANCE)
    assert len(model.tables) == 8


@pytest.mark.parametrize("variant", UNSIZED)
def test_the_others_have_one_size(variant: str) -> None:
    model = sized_model(variant, TWO, 8, None)
    assert forward_flops_per_sample(model) > 0
    assert model.top_mlp == ()


def test_a_budget_that_no_width_meets_says_what_does() -> None:
    with pytest.raises(SpecError, match=r"budgets = 100.*'dlrm' comes no nearer than \d+"):
        sized_model("dlrm", LOG, 16, 100)


def trial(variant: str, log: ClickLogSpec = LOG, budget: float | None = None, **training: Any) -> Trial:
    return Trial(
        log=log,
        model=sized_model(variant, log, 8, budget),
        seed=1,
        budget_flops=budget,
        training=msgspec.structs.replace(TRAINING, **training),
    )


def learned(one: Trial) -> Learned:
    return learn(one, lambda *_: None)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learns_something_of_a_small_log(variant: str) -> None:
    """And its first values, tables' and layers', are those of the models: the same trial gives the same numbers."""
    budget = 8000 if variant in SIZED else None
    one = trial(variant, TWO if variant == "mf" else LOG, budget, train_samples=32768, learning_rates=(0.03,))
    found = learned(one)
    assert found.bayes_log_loss < found.curve[-1].log_loss < found.prior_log_loss
    assert 0.5 < found.curve[-1].auc < found.bayes_auc
    assert found.curve[-1].samples == 32768
    assert 0 < found.curve[0].train_s < found.curve[-1].train_s
    again = learned(one)
    assert [p.log_loss for p in again.curve] == [p.log_loss for p in found.curve]


def gap(found: Learned) -> float:
    return found.curve[-1].log_loss - found.bayes_log_loss


class FirstOrderTrainer(Trainer):
    """The same model with its factors held at zero: what is left of a factorization machine is first-order."""

    def _step(self, inputs: Any, rate: float) -> None:
        super()._step(inputs, rate)
        for weight in self._model.embedding.table_weights():
            weight[:, 1:] = 0.0


@pytest.mark.slow
def test_a_factorization_machine_finds_planted_pairs_and_on_the_control_there_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The margins are those of the log: half of the logit's variance is pairwise, or none of it."""
    log = ClickLogSpec(num_features=4, num_rows=12, indices="uniform", rank=2, active_share=0.34, logit_std=2.0)
    one = trial("fm", log, train_samples=262_144, learning_rates=(0.03,), test_samples=32_768)
    control = msgspec.structs.replace(one, log=msgspec.structs.replace(log, kind="control"))
    with_pairs, with_pairs_control = gap(learned(one)), gap(learned(control))
    monkeypatch.setattr("bench.study.quality.Trainer", FirstOrderTrainer)
    first_order, without_control = learned(one), gap(learned(control))
    without = gap(first_order)
    assert with_pairs < 0.25 * without
    assert without > 0.04
    assert first_order.curve[-1].log_loss == pytest.approx(first_order.first_order_log_loss, abs=0.004)
    assert abs(without_control) < 0.003
    assert without_control <= with_pairs_control + 0.001


def test_validation_chooses_the_rate_and_all_tries_are_told() -> None:
    found = learned(trial("fm", learning_rates=(1e-6, 0.03)))
    assert found.learning_rate == 0.03
    assert [tried.learning_rate for tried in found.rates] == [1e-6, 0.03]
    losses = [tried.log_loss for tried in found.rates]
    assert losses[0] is not None
    assert losses[1] is not None
    assert losses[1] < losses[0]
    assert all(tried.train_s > 0 for tried in found.rates)


def test_a_rate_that_diverges_is_not_chosen_and_if_all_do_the_trial_fails() -> None:
    found = learned(trial("fm", learning_rates=(1e30, 0.03)))
    assert [(tried.learning_rate, tried.log_loss is None) for tried in found.rates] == [(0.03, False), (1e30, True)]
    with pytest.raises(DivergedError, match=r"any learning rate of 1e\+30"):
        learned(trial("fm", learning_rates=(1e30,)))


def test_evaluations_are_evenly_spread_and_the_last_is_at_the_end() -> None:
    assert sorted(evaluation_points(10, 4)) == [2, 5, 8, 10]
    assert max(evaluation_points(7, 3)) == 7


QUALITY = Quality(
    comparison=(
        Comparison(log=LOG, variants=("fm", "mlp"), budgets=(8000.0, 16000.0)),
        Comparison(log=TWO, variants=("mf",), dim=8, train_samples=2048),
    ),
    seeds=(0, 1),
    training=TRAINING,
)


def test_trials_are_every_model_on_every_log_from_every_seed_once() -> None:
    found = trials(QUALITY)
    assert len(found) == 2 * 2 * (1 + 2) + 2 * 2
    assert len({one.key() for one in found}) == len(found)
    assert {one.training.train_samples for one in found if one.model.variant == "mf"} == {2048}
    assert {one.budget_flops for one in found if one.model.variant == "fm"} == {None}
    assert found == trials(msgspec.json.decode(msgspec.json.encode(QUALITY), type=Quality))


def test_the_plan_says_what_does_not_fit() -> None:
    plenty, none = plan_trials(trials(QUALITY), 2**33), plan_trials(trials(QUALITY), 2**10)
    assert all(p.skip_reason is None and p.estimate_s > 0 and p.memory_bytes > 0 for p in plenty)
    assert all(p.skip_reason is not None and "of memory" in p.skip_reason for p in none)
    mlps = [p for p in plenty if p.trial.model.variant == "mlp"]
    assert mlps[0].estimate_s < mlps[-1].estimate_s
    assert mlps[0].flops_per_sample_forward == forward_flops_per_sample(mlps[0].trial.model)


def test_the_structure_sweep_compares_all_variants_at_equal_cost() -> None:
    quality = load_sweep("structure").quality
    assert quality is not None
    found = trials(quality)
    assert {one.model.variant for one in found} == set(VARIANTS)
    assert {one.log.kind for one in found} == {"planted", "control"}
    assert len({one.seed for one in found}) >= 3
    for one in found:
        if one.budget_flops is not None:
            assert forward_flops_per_sample(one.model) == pytest.approx(one.budget_flops, rel=TOLERANCE)
        assert models.count_parameters(one.model) < 100_000


def test_a_manifest_from_before_quality_is_still_read(tmp_path: Any) -> None:
    made = sample_records.manifest(sample_records.records()[:1])
    plain = msgspec.to_builtins(made)
    del plain["quality"]
    plain["schema_version"] = 1
    (tmp_path / store.MANIFEST).write_bytes(msgspec.json.encode(plain))
    assert store.read_manifest(tmp_path) == made
    carried = msgspec.structs.replace(made, quality=QUALITY)
    store.write_manifest(tmp_path, carried)
    assert store.read_manifest(tmp_path) == carried
    assert isinstance(carried, Manifest)


def quality_trial(seed: int) -> QualityTrial:
    from bench.records import TRIAL_SCHEMA_VERSION, Outcome

    one = msgspec.structs.replace(trial("fm"), seed=seed)
    return QualityTrial(
        schema_version=TRIAL_SCHEMA_VERSION,
        key=one.key(),
        log=one.log.kind,
        model=one.model,
        seed=seed,
        budget_flops=None,
        outcome=Outcome(status="failed", kind="diverged", reason="for the test"),
        click_log=one.log,
    )


def test_a_torn_trial_is_never_accepted_and_cut_before_the_next(tmp_path: Any) -> None:
    assert store.read_trials(tmp_path) == []
    with store.Appender(tmp_path, store.TRIALS) as out:
        out.add(quality_trial(1))
    with (tmp_path / store.TRIALS).open("ab") as file:
        file.write(b'{"schema_version":1,"key":"pla')
    assert store.read_trials(tmp_path) == [quality_trial(1)]
    with store.Appender(tmp_path, store.TRIALS) as out:
        out.add(quality_trial(2))
    assert store.read_trials(tmp_path) == [quality_trial(1), quality_trial(2)]
