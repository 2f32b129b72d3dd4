"""Which epoch comes next, from what the log holds: stages, epochs per case, chance. Pure, so a run can be resumed."""

from __future__ import annotations

import random
from collections.abc import Sequence

from bench.gate import sample_size
from bench.gate.decide import flagged
from bench.gate.ledger import CONTROLS, Ledger
from bench.gate.log import EpochPlan, GateManifest
from bench.gate.presets import Preset, for_device, with_target

MAX_PADDING_BYTES = 4096
STAGE1_BUDGET_FRAC = 0.6
"""With a budget, stage 1 takes no epochs beyond its fewest once this share of the time is gone."""


def timed_cases(manifest: GateManifest, ledger: Ledger) -> tuple[str, ...]:
    """Cases that both sides can run and mean the same by."""

    def runs(name: str) -> bool:
        sides = [ledger.counted.get((name, side)) for side in ("base", "head")]
        return all(s is not None and s.outcome == "ok" for s in sides)

    return tuple(c.name for c in manifest.cases if c.same and runs(c.name))


def preset_of(manifest: GateManifest, case: str) -> Preset:
    """The preset as it stands for the case's device, or for the tolerance that its test asks for."""
    device = next((c.head.device for c in manifest.cases if c.name == case and c.head is not None), "cpu")
    ask = manifest.tests.get(case)
    tolerance = ask.tolerance_frac if ask is not None else None
    return with_target(for_device(manifest.preset, device), tolerance)


def next_plan(manifest: GateManifest, ledger: Ledger) -> EpochPlan | None:
    """The epoch to run now, None where every case has what it needs."""
    timed = timed_cases(manifest, ledger)
    running = [c for c in timed if c not in ledger.failed]
    for stage in (1, 2):
        needing = [c for c in running if _needs(manifest, ledger, c, stage, len(timed))]
        if needing:
            return plan_epoch(manifest.seed, ledger.next_epoch, stage, needing)
    return None


def lacks_epochs(manifest: GateManifest, ledger: Ledger, case: str, num_cases: int) -> bool:
    """Whether the case would have been given more epochs in a run without a budget."""
    return any(_wants(manifest, ledger, case, stage, num_cases, hurried=False) for stage in (1, 2))


def _needs(manifest: GateManifest, ledger: Ledger, case: str, stage: int, num_cases: int) -> bool:
    return _wants(manifest, ledger, case, stage, num_cases, hurried=_hurry(manifest, ledger))


def _wants(manifest: GateManifest, ledger: Ledger, case: str, stage: int, num_cases: int, *, hurried: bool) -> bool:
    preset = preset_of(manifest, case)
    first, seen = ledger.epochs_of(case, 1), ledger.epochs_of(case, stage)
    bounds = preset.n1 if stage == 1 else preset.n2
    if seen.tried >= 2 * bounds[1]:
        return False
    if stage == 1:
        wanted = preset.n1[0]
        if len(first.differences) >= wanted and not hurried:
            wanted = sample_size.stage1_epochs(first.differences[:wanted], preset)
    elif flagged(first.differences, preset):
        wanted = sample_size.stage2_epochs(first.differences, preset, num_cases)
    else:
        return False
    return len(seen.differences) < wanted


def _hurry(manifest: GateManifest, ledger: Ledger) -> bool:
    return manifest.budget_s is not None and ledger.elapsed_s > STAGE1_BUDGET_FRAC * manifest.budget_s


def plan_epoch(seed: int, epoch: int, stage: int, cases: Sequence[str]) -> EpochPlan:
    """Draw an epoch: who starts first, paddings, case order; the controls go through both sides like any case."""
    chance = random.Random(f"{seed}/{epoch}")
    order = [*cases, *CONTROLS]
    chance.shuffle(order)
    return EpochPlan(
        epoch=epoch,
        stage=stage,
        seed=chance.getrandbits(31),
        first=chance.choice(("base", "head")),
        padding_bytes=(chance.randint(0, MAX_PADDING_BYTES), chance.randint(0, MAX_PADDING_BYTES)),
        order=tuple(order),
    )


def pair_order(plan: EpochPlan, case: str, pairs: int) -> tuple[bool, ...]:
    """Per pair, whether head runs first: as often as not, in random order."""
    order = [n % 2 == 0 for n in range(pairs)]
    random.Random(f"{plan.seed}/{case}").shuffle(order)
    return tuple(order)


def out_of_time(manifest: GateManifest, ledger: Ledger) -> bool:
    """Whether one more epoch, as long as the last, would end after the budget."""
    if manifest.budget_s is None:
        return False
    last_s = ledger.epoch_s[-1] if ledger.epoch_s else 0.0
    return ledger.elapsed_s + last_s > manifest.budget_s
