"""The rules the gate is not: thresholds, tests on blocks of one process pair, rerun until green. For comparison only.

Each takes blocks (cases, epochs, pairs, 2) of unchanged code and an injected ln change, and answers per case whether
it fails. They see the same noise as the gate and show why it is built as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bench.gate.noise_models import Blocks

Fails = NDArray[np.bool_]
Rule = Callable[[Blocks, float], Fails]


def threshold(limit_frac: float) -> Rule:
    """Base measured in one process, head later in another: fails where the medians differ by more than the limit."""

    def rule(blocks: Blocks, injected: float) -> Fails:
        base, head = np.median(blocks[:, 0, :, 0], axis=1), np.median(blocks[:, 1, :, 1], axis=1)
        fails: Fails = head + injected - base > np.log1p(limit_frac)
        return fails

    return rule


def t_test(level: float) -> Rule:
    """Welch's one-sided t-test on the interleaved blocks of one process pair, taken as independent."""

    def rule(blocks: Blocks, injected: float) -> Fails:
        from scipy import stats

        base, head = blocks[:, 0, :, 0], blocks[:, 0, :, 1] + injected
        found = stats.ttest_ind(head, base, axis=1, equal_var=False, alternative="greater")
        fails: Fails = np.asarray(found.pvalue) <= level
        return fails

    return rule


def mann_whitney(level: float) -> Rule:
    """Mann-Whitney's one-sided test on the same blocks."""

    def rule(blocks: Blocks, injected: float) -> Fails:
        from scipy import stats

        base, head = blocks[:, 0, :, 0], blocks[:, 0, :, 1] + injected
        found = stats.mannwhitneyu(head, base, axis=1, alternative="greater", method="asymptotic")
        fails: Fails = np.asarray(found.pvalue) <= level
        return fails

    return rule


def until_green(limit_frac: float, tries: int) -> Rule:
    """The threshold, run again where it fails: fails only where all tries fail."""
    once = threshold(limit_frac)

    def rule(blocks: Blocks, injected: float) -> Fails:
        fails = [once(blocks[:, 2 * n : 2 * n + 2], injected) for n in range(tries)]
        every: Fails = np.logical_and.reduce(fails)
        return every

    return rule


TRIES = 3
LEVEL = 0.0025
RULES: dict[str, Rule] = {
    "threshold 5 %": threshold(0.05),
    "threshold 7 %": threshold(0.07),
    "threshold 10 %": threshold(0.10),
    "t-test on blocks, p <= .0025": t_test(LEVEL),
    "Mann-Whitney on blocks, p <= .0025": mann_whitney(LEVEL),
    "5 % threshold, rerun until green": until_green(0.05, TRIES),
}
