"""The gate's two stages on simulated cases, many at once, exactly as decide.py takes them one by one."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.gate import noise_models, sample_size
from bench.gate.presets import Preset
from bench.gate.sample_size import confirm_level
from bench.gate.signed_rank import hodges_lehmann_of_rows, tails_of_rows

PAIRS = 8
"""Block pairs per epoch, simulated: fewer than measured, so that noise is larger than with 48."""

Differences = NDArray[np.float64]
Draw = Callable[[int, int], Differences]


class Simulated(msgspec.Struct, frozen=True, kw_only=True):
    """What the two stages did with `cases` cases. Arrays over cases, or over those that reached stage 2."""

    p1: NDArray[np.float64]
    n1: NDArray[np.int64]
    p2: NDArray[np.float64]
    n2: NDArray[np.int64]
    failed: NDArray[np.bool_]


def simulate(law: str, cases: int, seed: int, preset: Preset, num_cases: int, injected_frac: float = 0.0) -> Simulated:
    """Screen `cases` cases and confirm the flagged ones, each as one of a run of `num_cases`."""
    chance = np.random.default_rng([seed, list(noise_models.LAWS).index(law)])
    shift = math.log1p(injected_frac)
    return two_stages(lambda rows, epochs: _draw(chance, law, rows, epochs, shift), cases, preset, num_cases)


def two_stages(draw: Draw, cases: int, preset: Preset, num_cases: int) -> Simulated:
    """Screen, then confirm on newly drawn differences. `draw(cases, epochs)` gives them."""
    first = draw(cases, preset.n1[1])
    n1 = planned_stage1(first[:, : preset.n1[0]], preset)
    p1 = p_values(first, n1)
    chosen = np.flatnonzero(p1 <= preset.screen_level)
    n2 = planned_stage2(first[chosen], n1[chosen], preset, num_cases)
    second = draw(len(chosen), preset.n2[1])
    p2 = p_values(second, n2)
    large = estimates(second, n2) >= math.log1p(preset.min_effect_frac)
    failed = np.zeros(cases, dtype=bool)
    failed[chosen] = (p2 <= confirm_level(preset, num_cases)) & large
    return Simulated(p1=p1, n1=n1, p2=p2, n2=n2, failed=failed)


def _draw(chance: np.random.Generator, law: str, cases: int, epochs: int, shift: float) -> Differences:
    blocks = noise_models.LAWS[law](chance, (cases, epochs, PAIRS))
    return noise_models.differences(chance, blocks) + shift


def planned_stage1(first: Differences, preset: Preset) -> NDArray[np.int64]:
    """n1 of every row, from its first epochs."""
    return np.array([sample_size.stage1_epochs(row, preset) for row in first.tolist()], dtype=np.int64)


def planned_stage2(first: Differences, n1: NDArray[np.int64], preset: Preset, num_cases: int) -> NDArray[np.int64]:
    """n2 of every row, from its stage 1."""
    rows = [row[:n] for row, n in zip(first.tolist(), n1.tolist(), strict=True)]
    return np.array([sample_size.stage2_epochs(row, preset, num_cases) for row in rows], dtype=np.int64)


def p_values(differences: Differences, epochs: NDArray[np.int64]) -> NDArray[np.float64]:
    """One-sided p of every row's first `epochs` differences, for a slow-down."""
    found = np.ones(len(differences))
    for n in np.unique(epochs).tolist():
        rows = epochs == n
        found[rows] = tails_of_rows(differences[rows, :n])[0]
    return found


def estimates(differences: Differences, epochs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Hodges-Lehmann of every row's first `epochs` differences."""
    found = np.zeros(len(differences))
    for n in np.unique(epochs).tolist():
        rows = epochs == n
        found[rows] = hodges_lehmann_of_rows(differences[rows, :n])
    return found
