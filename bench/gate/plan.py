"""A dry run: how long a gate would take and what it could find, before anything is measured. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bench.gate.presets import Preset
from bench.gate.sample_size import confirm_level, detectable_frac, least_epochs
from bench.gate.verdict import CaseVerdict

START_S = 2.5
BUILD_S = 0.3
BLOCK_OVERHEAD_FRAC = 0.4
"""Sweep gate on two CPUs: 16.5 s an epoch of eight cases with 32 pairs, 6.5 s of one, 21 s of eight with 48 pairs."""
SPREADS_FRAC = (0.01, 0.02, 0.04)
"""Spreads between epochs to plan for: a quiet machine, a usual one, a loud one."""


class GatePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Times are estimates. detectable_frac: for each spread between epochs, the change found 39 times in 40.

    stage1_s: all cases at the fewest epochs. longest_s: every case flagged, and as many epochs as allowed.
    """

    preset: Preset
    run: tuple[str, ...]
    not_run: tuple[CaseVerdict, ...]
    confirm_level: float
    least_n2: int
    epoch_s: float
    stage1_s: float
    longest_s: float
    budget_s: float | None
    detectable_frac: dict[str, float]


def make_plan(run: Sequence[str], not_run: Sequence[CaseVerdict], preset: Preset, budget_s: float | None) -> GatePlan:
    """The plan for these cases; two null controls run in every epoch too."""
    case_s = 2 * (BUILD_S + preset.pairs * preset.block_s * (1 + BLOCK_OVERHEAD_FRAC))
    epoch_s = START_S + case_s * (len(run) + 2)
    level = confirm_level(preset, max(len(run), 1))
    return GatePlan(
        preset=preset,
        run=tuple(run),
        not_run=tuple(not_run),
        confirm_level=level,
        least_n2=max(preset.n2[0], least_epochs(level)),
        epoch_s=epoch_s,
        stage1_s=preset.n1[0] * epoch_s,
        longest_s=(preset.n1[1] + preset.n2[1]) * epoch_s,
        budget_s=budget_s,
        detectable_frac={f"{sd:g}": detectable_frac(sd, preset, max(len(run), 1)) for sd in SPREADS_FRAC},
    )
