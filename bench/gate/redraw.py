"""Recorded epochs of unchanged code, judged again with signs drawn anew: the gate's own decision on real noise. Pure.

Labels were drawn at random, so each epoch's sign could as well have been the other. Chunks of consecutive epochs, as
long as one gate run may take and without overlap, keep the recorded drift; all cases of an epoch flip together, which
keeps what they share. An effect is a constant added to every difference of every case.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.gate.presets import Preset
from bench.gate.sample_size import confirm_level
from bench.gate.signed_rank import upper_bounds_of_rows
from bench.gate.simulation import Differences, estimates, p_values, planned_stage1, planned_stage2

DRAWS = 10_000
EFFECTS_FRAC = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.10)
Rows = NDArray[np.bool_]


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One case: its differences, one per epoch that all cases share, in the order measured; its preset."""

    differences: tuple[float, ...]
    base_step_s: float
    preset: Preset


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a case slowed by effect_frac, as shares of the draws; effect 0: detected is a false failure."""

    effect_frac: float
    detected_frac: float
    inconclusive_frac: float
    passed_frac: float


class Redrawn(msgspec.Struct, frozen=True, kw_only=True):
    """`chunks` 0: fewer epochs than one run takes, so they were drawn with replacement instead.

    any_frac: effect -> share of draws in which at least one case failed; its entry "0" is the false failures per run.
    """

    draws: int
    epochs: int
    chunks: int
    epochs_per_chunk: int
    any_frac: dict[str, float]
    cases: dict[str, tuple[Outcomes, ...]]


def redraw(
    recorded: Mapping[str, Recorded], draws: int = DRAWS, seed: int = 1, effects: Sequence[float] = EFFECTS_FRAC
) -> Redrawn:
    """Judge `draws` runs made of recorded epochs with random signs, at each effect."""
    chance = np.random.default_rng(seed)
    epochs = len(next(iter(recorded.values())).differences)
    length = max(r.preset.n1[1] + r.preset.n2[1] for r in recorded.values())
    chunks = epochs // length
    picked = chance.integers(0, max(chunks, 1), (draws, 1)) * length + np.arange(length)
    if not chunks:
        picked = chance.integers(0, epochs, (draws, length))
    signs = chance.choice(np.array([-1.0, 1.0]), (draws, length))
    found: dict[str, list[Outcomes]] = {name: [] for name in recorded}
    any_frac = {}
    for effect in effects:
        failed = np.zeros(draws, dtype=bool)
        for name, case in recorded.items():
            # Drawn twice, sizes tie; a jitter far below any effect keeps the rows free of ties and zeros.
            jitter = chance.normal(0, 1e-9, picked.shape)
            rows = signs * np.array(case.differences)[picked] + jitter + math.log1p(effect)
            mine, passed = judge(rows, case, len(recorded))
            failed |= mine
            found[name].append(_outcomes(effect, mine, passed))
        any_frac[f"{effect:g}"] = float(failed.mean())
    return Redrawn(
        draws=draws,
        epochs=epochs,
        chunks=chunks,
        epochs_per_chunk=length,
        any_frac=any_frac,
        cases={name: tuple(outcomes) for name, outcomes in found.items()},
    )


def _outcomes(effect: float, failed: Rows, passed: Rows) -> Outcomes:
    return Outcomes(
        effect_frac=effect,
        detected_frac=float(failed.mean()),
        inconclusive_frac=float((~failed & ~passed).mean()),
        passed_frac=float(passed.mean()),
    )


def judge(rows: Differences, case: Recorded, num_cases: int) -> tuple[Rows, Rows]:
    """(failed, passed) of every row, as decide.py has it: stage 1 from its first epochs, stage 2 from the rest."""
    preset = case.preset
    first, second = rows[:, : preset.n1[1]], rows[:, preset.n1[1] : preset.n1[1] + preset.n2[1]]
    n1 = planned_stage1(first[:, : preset.n1[0]], preset)
    slower = p_values(first, n1) <= preset.screen_level
    flagged = slower | (p_values(-first, n1) <= preset.screen_level)
    bounds = _upper(first, n1, preset)
    failed = np.zeros(len(rows), dtype=bool)
    chosen = np.flatnonzero(flagged)
    if len(chosen):
        n2 = planned_stage2(first[chosen], n1[chosen], preset, num_cases)
        again = second[chosen]
        bounds[chosen] = _upper(again, n2, preset)
        change = estimates(again, n2)
        large = (change >= math.log1p(preset.min_effect_frac)) & (np.expm1(change) >= _floor(case))
        failed[chosen] = slower[chosen] & large & (p_values(again, n2) <= confirm_level(preset, num_cases))
    return failed, ~failed & (np.expm1(bounds) < max(preset.target_frac, _floor(case)))


def _floor(case: Recorded) -> float:
    return case.preset.floor_s / case.base_step_s


def _upper(rows: Differences, epochs: NDArray[np.int64], preset: Preset) -> NDArray[np.float64]:
    found = np.full(len(rows), math.inf)
    for n in np.unique(epochs).tolist():
        found[epochs == n] = upper_bounds_of_rows(rows[epochs == n, :n], preset.confidence)
    return found
