"""Log loss and AUC: numbers in, numbers out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def log_loss(logits: Floats, labels: NDArray[Any]) -> float:
    """Mean binary cross-entropy, in nats, of logits (n,) for labels (n,) of 0 and 1."""
    return float(np.mean(np.logaddexp(0.0, logits) - labels * logits))


def prior_log_loss(labels: NDArray[Any]) -> float:
    """Log loss of the best constant: the entropy of the labels' own rate. 0 where all labels are alike."""
    rate = float(np.mean(labels))
    return float(-sum(p * np.log(p) for p in (rate, 1.0 - rate) if p > 0))


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
