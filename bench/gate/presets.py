"""The gate's settings as data: quick, default, rigorous."""

from __future__ import annotations

import math

import msgspec

from workloads.spec import SpecError, unknown


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a decision depends on besides the data.

    family_error: chance that any unchanged case fails. screen_level: stage 1 flags at p <= this. target_frac: the
    change the run is sized to find, and that PASS excludes. min_effect_frac, floor_s: smaller changes never fail.
    n1, n2: fewest and most epochs of the stages. pairs, block_s: block pairs per case and epoch, seconds per block.
    control_level: a null control whose p-value on either side is at most this makes the run invalid.
    """

    name: str
    family_error: float = 0.01
    screen_level: float = 0.10
    target_frac: float = 0.05
    min_effect_frac: float = 0.025
    floor_s: float = 20e-6
    n1: tuple[int, int] = (8, 16)
    n2: tuple[int, int] = (12, 32)
    pairs: int = 48
    block_s: float = 0.010
    max_excluded_frac: float = 0.25
    control_level: float = 0.01
    confidence: float = 0.90


PRESETS: dict[str, Preset] = {
    "quick": Preset(
        name="quick",
        family_error=0.05,
        target_frac=0.10,
        n1=(6, 6),
        n2=(10, 10),
        pairs=32,
        control_level=0.02,
    ),
    "default": Preset(name="default"),
    "rigorous": Preset(name="rigorous", n1=(16, 16), n2=(32, 32)),
}

CUDA_FINER, CUDA_FLOOR_S = 0.4, 2e-6
DISCARDED_STEPS = 2
MIN_LAUNCHES = 20
MAX_EPOCHS, MAX_PAIRS, MAX_BLOCK_S = 64, 10_000, 10.0


def load(name: str) -> Preset:
    """The preset of this name. Raises SpecError with the known ones."""
    if name not in PRESETS:
        raise unknown("preset", name, list(PRESETS))
    return PRESETS[name]


def for_device(preset: Preset, device: str) -> Preset:
    """Smaller changes can be told apart on a GPU: its default target, effect and floor."""
    if not device.startswith("cuda"):
        return preset
    return msgspec.structs.replace(
        preset,
        target_frac=CUDA_FINER * preset.target_frac,
        min_effect_frac=CUDA_FINER * preset.min_effect_frac,
        floor_s=CUDA_FLOOR_S,
    )


def with_target(preset: Preset, target_frac: float | None) -> Preset:
    """The preset with another target, None: as it is. The minimum effect stays below it, at half where need be."""
    if target_frac is None:
        return preset
    least = min(preset.min_effect_frac, target_frac / 2)
    return msgspec.structs.replace(preset, target_frac=target_frac, min_effect_frac=least)


def changed(preset: Preset, changes: dict[str, object]) -> Preset:
    """The preset with fields replaced. Raises SpecError for what no decision could use."""
    try:
        made = msgspec.convert(msgspec.to_builtins(preset) | changes, Preset)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `")
        field = path.rstrip("`").removeprefix("$.") or next(iter(changes), "preset")
        raise SpecError(f"--set {field}", changes.get(field), problem) from None
    _check(made)
    return made


def _check(preset: Preset) -> None:
    """Every comparison is false for NaN, so that it is refused."""
    for name in ("family_error", "screen_level", "control_level", "target_frac"):
        _require(preset, name, 0 < getattr(preset, name) < 1, "a number between 0 and 1")
    for name in ("n1", "n2"):
        least, most = getattr(preset, name)
        if not 1 <= least <= most <= MAX_EPOCHS:
            raise SpecError(f"--set {name}", [least, most], "fewest and most epochs, 1 to 64, for example [8, 16]")
    balanced = "an even number from 2 to 10000: the order inside the pairs is balanced"
    _require(preset, "pairs", 2 <= preset.pairs <= MAX_PAIRS and preset.pairs % 2 == 0, balanced)
    _require(preset, "block_s", 0 < preset.block_s <= MAX_BLOCK_S, "seconds above 0, at most 10")
    _require(preset, "floor_s", 0 <= preset.floor_s < math.inf, "seconds from 0, for example 2e-5")
    _require(preset, "max_excluded_frac", 0 <= preset.max_excluded_frac <= 1, "a number from 0 to 1")
    _require(preset, "confidence", 0.5 <= preset.confidence < 1, "a number from 0.5 and below 1, for example 0.9")
    below = f"a number from 0, below target_frac, which is {preset.target_frac:g}"
    _require(preset, "min_effect_frac", 0 <= preset.min_effect_frac < preset.target_frac, below)


def _require(preset: Preset, name: str, holds: bool, expected: str) -> None:
    if not holds:
        raise SpecError(f"--set {name}", getattr(preset, name), expected)
