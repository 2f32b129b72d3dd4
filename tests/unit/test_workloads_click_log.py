"""The synthetic click log: its truth is as stated, its samples follow the truth, its streams never meet."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from bench.study.scores import auc, log_loss
from workloads.click_log import STREAM_BATCHES, ClickLog, ClickLogSpec, row_probabilities
from workloads.spec import SpecError

ROOT = Path(__file__).parent.parent.parent
SPEC = ClickLogSpec(num_features=4, num_dense=3, num_rows=40, rank=2, pair_share=0.6, active_share=0.5, logit_std=2.0)
SPECS = [
    SPEC,
    replace(SPEC, kind="control"),
    replace(SPEC, num_dense=0, indices="uniform", pair_share=1.0),
    replace(SPEC, num_features=2, num_dense=0, rank=5, active_share=1.0, indices="uniform"),
]


def drawn(log, stream="test", batches=40, size=5000):
    made = [log.clicks(stream, number, size) for number in range(batches)]
    return (
        np.concatenate([c.logits for c in made]),
        np.concatenate([c.batch.labels for c in made]),
        np.concatenate([c.batch.indices.reshape(log.spec.num_features, -1).T for c in made]),
        np.concatenate([c.batch.dense for c in made]),
    )


def first_order_terms(log, indices, dense):
    """(n,) by a loop over features, written apart from the code under test."""
    t = np.sqrt(12.0) * (dense - 0.5)
    sparse = sum(log.truth.first[i, indices[:, i]] for i in range(log.spec.num_features))
    return sparse + sum(t[:, k] * log.truth.first_dense[k] for k in range(log.spec.num_dense))


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("seed", [0, 7])
def test_logits_have_the_stated_variance_and_share(spec, seed):
    """Rows are averaged over by their exact probabilities; only the dense features are sampled."""
    log = ClickLog(spec, seed)
    logits, _, indices, dense = drawn(log)
    first = first_order_terms(log, indices, dense)
    np.testing.assert_allclose(first[:5000], log.clicks("test", 0, 5000).first_order)
    pairs = logits - spec.bias - first
    share = spec.pair_share if spec.kind == "planted" else 0.0
    assert np.var(logits) == pytest.approx(spec.logit_std**2, rel=0.06)
    assert np.mean(logits) == pytest.approx(spec.bias, abs=0.05)
    assert np.var(pairs) == pytest.approx(share * spec.logit_std**2, rel=0.08, abs=1e-12)
    assert abs(np.cov(first, pairs)[0, 1]) < 0.02 * spec.logit_std**2


def test_pairs_add_up_to_the_stated_share_exactly():
    log = ClickLog(SPEC, 3)
    chances = row_probabilities(SPEC, 3)
    grams = [np.einsum("e,er,es->rs", p, z, z) for p, z in zip(chances, log.truth.latent, strict=True)]
    grams += [np.outer(d, d) for d in log.truth.latent_dense]
    variance = sum(
        log.truth.strength[a, b] ** 2 * np.trace(grams[a] @ grams[b])
        for a, b in itertools.combinations(range(len(grams)), 2)
    )
    assert variance == pytest.approx(SPEC.pair_share * SPEC.logit_std**2)
    assert np.count_nonzero(log.truth.strength) == SPEC.num_active == round(0.5 * 21)
    for p, z in zip(chances, log.truth.latent, strict=True):
        np.testing.assert_allclose(p @ z, 0.0, atol=1e-12)


def test_the_planted_pairs_can_be_found_by_regression_and_the_control_has_none():
    """Logits on first-order terms leave the stated share of variance unexplained, or nothing."""
    for spec, unexplained in ((SPEC, SPEC.pair_share), (replace(SPEC, kind="control"), 0.0)):
        log = ClickLog(spec, 1)
        logits, _, indices, dense = drawn(log, batches=10)
        columns = [np.eye(spec.num_rows)[indices[:, i]] for i in range(spec.num_features)]
        design = np.hstack([*columns, dense])
        fitted = design @ np.linalg.lstsq(design, logits, rcond=None)[0]
        assert np.var(logits - fitted) / np.var(logits) == pytest.approx(unexplained, abs=0.03)


def test_control_and_planted_share_samples_and_first_order_effects():
    planted, control = ClickLog(SPEC, 2), ClickLog(replace(SPEC, kind="control"), 2)
    np.testing.assert_array_equal(
        planted.clicks("train", 0, 64).batch.indices, control.clicks("train", 0, 64).batch.indices
    )
    ratio = control.truth.first / planted.truth.first
    np.testing.assert_allclose(ratio, (1 - SPEC.pair_share) ** -0.5)
    assert not control.truth.strength.any()


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_labels_follow_the_true_probabilities(spec):
    """Log loss of the truth lies within four standard errors of its expectation, the mean entropy; so do its bins."""
    logits, labels, _, _ = drawn(ClickLog(spec, 5))
    p = 1 / (1 + np.exp(-logits))
    losses = np.logaddexp(0, logits) - labels * logits
    entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p))
    error = np.std(losses - entropy) / np.sqrt(labels.size)
    assert log_loss(logits, labels) == pytest.approx(float(np.mean(entropy)), abs=4 * error)
    for part in np.array_split(np.argsort(p), 10):
        spread = np.sqrt(np.sum(p[part] * (1 - p[part])))
        assert abs(labels[part].sum() - p[part].sum()) < 4.5 * spread
    assert 0.5 < auc(logits, labels) < 1


def test_a_log_is_its_seed_and_nothing_else():
    def made(seed, number=3):
        return ClickLog(SPEC, seed).clicks("train", number, 500)

    first, again = made(1), made(1)
    for field in ("dense", "indices", "labels"):
        np.testing.assert_array_equal(getattr(first.batch, field), getattr(again.batch, field))
    np.testing.assert_array_equal(first.logits, again.logits)
    assert (made(2).batch.indices != first.batch.indices).any()
    assert (made(1, 4).batch.indices != first.batch.indices).any()
    assert (ClickLog(SPEC, 2).truth.first != ClickLog(SPEC, 1).truth.first).any()


def test_streams_never_meet():
    """Dense features are 24-bit draws: five thousand samples of three in common would be a repeated batch."""
    log = ClickLog(SPEC, 0)
    seen = [log.clicks(s, n, 100).batch for s in ("train", "validation", "test") for n in range(50)]
    rows = {tuple(row) for batch in seen for row in batch.dense.tolist()}
    assert len(rows) == 150 * 100
    assert len({batch.number for batch in seen}) == 150
    with pytest.raises(SpecError, match="batch number"):
        log.clicks("train", STREAM_BATCHES, 100)


BAD = [
    ({"num_features": 0}, "num_features = 0"),
    ({"num_features": 1, "num_dense": 0}, "at least two features"),
    ({"rank": 40}, "rank = 40 .*less than num_rows"),
    ({"pair_share": 1.5}, "pair_share = 1.5 .*from 0 to 1"),
    ({"logit_std": float("nan")}, "logit_std"),
    ({"indices": "sequential"}, "known: uniform, zipf"),
    ({"exponent": -1}, "exponent = -1"),
    ({"indices": "zip"}, "did you mean 'zipf'"),
]


@pytest.mark.parametrize(("changes", "words"), BAD)
def test_a_bad_log_is_named(changes, words):
    with pytest.raises(SpecError, match=words):
        replace(SPEC, **changes)


def digest(threads):
    code = (
        "import hashlib; from workloads.click_log import *\n"
        "spec = ClickLogSpec(num_features=6, num_dense=3, num_rows=50_000, rank=4)\n"
        "c = ClickLog(spec, 0).clicks('train', 0, 20_000)\n"
        "print(hashlib.sha256(c.logits.tobytes() + c.batch.labels.tobytes()).hexdigest())"
    )
    environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_a_log_is_the_same_on_any_number_of_threads():
    assert len({digest("1"), digest("2"), digest("3")}) == 1
