"""Log loss and AUC: numbers in, numbers out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
NEWTON_STEPS = 12


def log_loss(logits: Floats, labels: NDArray[Any]) -> float:
    """Mean binary cross-entropy, in nats, of logits (n,) for labels (n,) of 0 and 1."""
    return float(np.mean(np.logaddexp(0.0, logits) - labels * logits))


def prior_log_loss(labels: NDArray[Any]) -> float:
    """Log loss of the best constant: the entropy of the labels' own rate. 0 where all labels are alike."""
    rate = float(np.mean(labels))
    return float(-sum(p * np.log(p) for p in (rate, 1.0 - rate) if p > 0))


def calibrated(scores: Floats, labels: NDArray[Any]) -> Floats:
    """a + b * scores (n,) with the least log loss on these labels, by Newton's method."""
    design = np.stack([np.ones_like(scores), scores], axis=1)
    weights = np.zeros(2)
    for _ in range(NEWTON_STEPS):
        chance = 1.0 / (1.0 + np.exp(-design @ weights))
        curvature = design.T @ (design * (chance * (1.0 - chance))[:, None])
        weights -= np.linalg.lstsq(curvature, design.T @ (chance - labels), rcond=None)[0]
    return np.asarray(design @ weights)


def auc(scores: Floats, labels: NDArray[Any]) -> float:
    """Chance that a clicked sample scores above one that was not, ties counted half; by mean ranks (Mann-Whitney).

    Raises ValueError where all labels are alike.
    """
    clicked = labels > 0.5
    ones = int(np.count_nonzero(clicked))
    zeros = clicked.size - ones
    if not ones or not zeros:
        raise ValueError(f"all {clicked.size} labels are alike, so there is no AUC; more samples are needed")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[clicked].sum() - ones * (ones + 1) / 2) / (ones * zeros))
