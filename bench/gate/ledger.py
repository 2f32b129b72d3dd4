"""A log's lines as what decisions need: differences per case and stage, exclusions, what failed. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import msgspec

from bench.gate.log import Began, Blocks, Counted, Ended, Failed, Line, Stopped

STEAL_FRAC = 0.05
MIN_KEPT_FRAC = 0.5
CONTROLS = ("control:arithmetic", "control:gather")


class CaseEpochs(msgspec.Struct, frozen=True, kw_only=True):
    """One case's epochs of one stage: usable differences, and how many epochs were tried for them."""

    differences: tuple[float, ...] = ()
    tried: int = 0


class Ledger:
    """What complete epochs of a log say. Lines of an epoch that never ended are left out, whatever they say."""

    def __init__(self, lines: Sequence[Line]) -> None:
        ended = {line.epoch: line.elapsed_s for line in lines if isinstance(line, Ended)}
        plans = {line.plan.epoch: line.plan for line in lines if isinstance(line, Began)}
        self.elapsed_s = sum(ended.values())
        self.counting_done = 0 in ended
        self.epoch_s = [s for number, s in ended.items() if number > 0]
        self.epochs = len(self.epoch_s)
        self.next_epoch = max(plans, default=0) + 1
        self.stopped = any(isinstance(line, Stopped) for line in lines)
        self.counted = {(line.case, line.side): line for line in lines if isinstance(line, Counted)}
        self.failed = {line.case: line for line in lines if isinstance(line, Failed) and line.epoch in ended}
        self._stage_of = {number: plan.stage for number, plan in plans.items() if number in ended}
        self._blocks = [line for line in lines if isinstance(line, Blocks) and line.epoch in ended]

    def epochs_of(self, case: str, stage: int) -> CaseEpochs:
        """Differences of a case in a stage, in the order measured."""
        found = self.by_epoch(case, stage)
        return CaseEpochs(differences=tuple(d for d in found.values() if d is not None), tried=len(found))

    def by_epoch(self, case: str, stage: int) -> dict[int, float | None]:
        """The difference of each epoch in which the case was tried; None where it was too disturbed to use."""
        mine = [b for b in self._blocks if b.case == case and self._stage_of[b.epoch] == stage]
        return {b.epoch: difference(b) for b in mine}

    def base_step_s(self, case: str) -> float:
        """Median over all kept blocks of base; NaN where there is none."""
        times = [
            _number(s) for b in self._blocks if b.case == case for s, k in zip(b.base_s, kept(b), strict=True) if k
        ]
        return median(times) if times else math.nan

    def excluded_frac(self, case: str | None = None) -> float:
        """Share of block pairs that were disturbed, of one case or of all."""
        flags = [k for b in self._blocks if case in (None, b.case) for k in kept(b)]
        return flags.count(False) / len(flags) if flags else 0.0


def changes_of(ledgers: Sequence[Ledger], case: str, stage: int) -> tuple[float, ...]:
    """Every usable difference of a case in a stage, over all these logs, as a fraction: 0.05 is 5 % slower."""
    found = (d for ledger in ledgers for d in ledger.epochs_of(case, stage).differences)
    return tuple(math.expm1(d) for d in found if math.isfinite(d))


def kept(blocks: Blocks) -> tuple[bool, ...]:
    """Per pair, whether the machine let it be: decided by steal and throttling over the pair, never by its times."""
    return tuple(
        steal <= STEAL_FRAC and throttled <= 0
        for steal, throttled in zip(blocks.steal_frac, blocks.throttled_s, strict=True)
    )


def difference(blocks: Blocks) -> float | None:
    """Median over kept pairs of ln(head) - ln(base); None where over half of the pairs were disturbed.

    NaN where a time is no positive number: that is for the decision to refuse, not for us to drop.
    """
    keep = kept(blocks)
    if sum(keep) < MIN_KEPT_FRAC * len(keep) or not keep:
        return None
    pairs = [(b, h) for b, h, k in zip(blocks.base_s, blocks.head_s, keep, strict=True) if k]
    logs = [_log(h) - _log(b) for b, h in pairs]
    return math.nan if any(math.isnan(d) for d in logs) else median(logs)


def _number(seconds: float | None) -> float:
    return math.nan if seconds is None else seconds


def _log(seconds: float | None) -> float:
    value = _number(seconds)
    return math.log(value) if value > 0 and math.isfinite(value) else math.nan
