"""How many epochs a case needs, from the sizes of its differences only: the signs stay fair coins. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, median

from bench.gate.presets import Preset
from bench.gate.signed_rank import hodges_lehmann
from workloads.spec import SpecError

SCREEN_POWER = 0.99
MAX_CONFIRM_LEVEL = 0.05
CONFIRM_POWER = 0.975
MEDIAN_OF_HALF_NORMAL = 0.6745
SIGNED_RANK_EFFICIENCY_SPARE = {1: 2, 2: 3}
"""Epochs added to the normal law's figure: the signed-rank test needs a few more."""


def spread(differences: Sequence[float]) -> float:
    """Standard deviation between epochs, as median |d| / 0.6745; label-blind."""
    return median(abs(d) for d in differences) / MEDIAN_OF_HALF_NORMAL


def scatter(stages: Sequence[Sequence[float]]) -> float:
    """Standard deviation between epochs about each stage's own centre: for telling, since a change does not widen it.

    Never for planning: it is not label-blind.
    """
    centred = [d - hodges_lehmann(stage) for stage in stages if stage for d in stage]
    fitted = sum(1 for stage in stages if stage)
    return spread(centred) * math.sqrt(len(centred) / max(len(centred) - fitted, 1))


def confirm_level(preset: Preset, num_cases: int) -> float:
    """Stage 2's level: P(any false failure) <= num_cases * screen_level * this <= family_error, any dependence.

    Few cases would allow a high level. It is capped, so that nothing fails whose 90 % interval holds "no change".
    """
    return min(MAX_CONFIRM_LEVEL, preset.family_error / (num_cases * preset.screen_level))


def least_epochs(level: float) -> int:
    """Fewest epochs at which the smallest p-value, 2**-n, reaches `level`."""
    return max(1, math.ceil(-math.log2(level) - 1e-9))


def stage1_epochs(differences: Sequence[float], preset: Preset) -> int:
    """n1 of a case, from its first epochs."""
    return _epochs(spread(differences), preset.screen_level, SCREEN_POWER, preset, 1, preset.n1)


def stage2_epochs(differences: Sequence[float], preset: Preset, num_cases: int) -> int:
    """n2 of a flagged case, from its stage 1; never fewer than could reject."""
    level = confirm_level(preset, num_cases)
    least, most = preset.n2
    bounds = max(least, least_epochs(level)), most
    return _epochs(spread(differences), level, CONFIRM_POWER, preset, 2, bounds)


def _epochs(sd: float, level: float, power: float, preset: Preset, stage: int, bounds: tuple[int, int]) -> int:
    z = NormalDist().inv_cdf(1 - level) + NormalDist().inv_cdf(power)
    wanted = math.ceil((z * sd / math.log1p(preset.target_frac)) ** 2) + SIGNED_RANK_EFFICIENCY_SPARE[stage]
    return min(max(wanted, bounds[0]), bounds[1])


def least_change(preset: Preset, step_s: float) -> float:
    """ln of the smallest estimate that can fail a case of this step time: minimum effect or floor in seconds."""
    return math.log1p(max(preset.min_effect_frac, preset.floor_s / step_s))


def detectable_frac(sd: float, preset: Preset, num_cases: int, step_s: float = math.inf) -> float:
    """The change that a run with this spread between epochs finds about 39 times in 40.

    By the normal law: large enough to be flagged, to be significant on new epochs, and for its estimate to lie above
    what may fail a case of this step time in seconds (a change just so large is found every other time).
    """
    normal, level = NormalDist(), confirm_level(preset, num_cases)
    n1 = _epochs(sd, preset.screen_level, SCREEN_POWER, preset, 1, preset.n1)
    n2 = _epochs(sd, level, CONFIRM_POWER, preset, 2, (max(preset.n2[0], least_epochs(level)), preset.n2[1]))
    first, second = (sd / math.sqrt(max(n - SIGNED_RANK_EFFICIENCY_SPARE[k], 1)) for k, n in ((1, n1), (2, n2)))
    power = normal.inv_cdf(CONFIRM_POWER)
    return math.expm1(
        max(
            (normal.inv_cdf(1 - preset.screen_level) + normal.inv_cdf(SCREEN_POWER)) * first,
            (normal.inv_cdf(1 - level) + power) * second,
            least_change(preset, step_s) + power * second,
        )
    )


def require_resolution(preset: Preset, num_cases: int) -> None:
    """Refuse settings under which no p-value could ever be small enough. Raises SpecError with the least n."""
    level = confirm_level(preset, num_cases)
    if least_epochs(level) > preset.n2[1]:
        raise SpecError(
            "n2",
            list(preset.n2),
            f"at least {least_epochs(level)} epochs: with {num_cases} cases stage 2 fails at p <= {level:.2g}, and "
            f"{preset.n2[1]} epochs cannot give less than {2.0 ** -preset.n2[1]:.2g}, so nothing could ever fail; "
            "raise n2 or family_error, or gate fewer cases",
        )
    if least_epochs(preset.screen_level) > preset.n1[0]:
        raise SpecError(
            "n1",
            list(preset.n1),
            f"at least {least_epochs(preset.screen_level)} epochs: stage 1 flags at p <= {preset.screen_level:g}, and "
            f"{preset.n1[0]} epochs cannot give less than {2.0 ** -preset.n1[0]:.2g}",
        )
    if least_epochs(preset.control_level) > preset.n1[0]:
        raise SpecError(
            "control_level",
            preset.control_level,
            f"at least {2.0 ** -preset.n1[0]:.2g}, what {preset.n1[0]} epochs give",
        )
