"""Two runs case by case, by one process per case and side: what differs may be the process. Pure, advisory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

import msgspec

from bench.between import Between, widened
from bench.gate.verdict import Reason
from bench.records import Record
from bench.reporting.format import percent
from bench.stats import ratio_of_medians, usable

ADVICE = "advisory: one process per case and side, so that a difference may be the process's; the gate decides"


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One case of two runs. change_frac: head's median step time over base's, less one; low and high hold 95 %.

    The interval is that of repeats within two processes, widened by what processes differ by where the runs know it.
    """

    case: str
    reason: Reason
    base_step_s: float | None = None
    head_step_s: float | None = None
    change_frac: float | None = None
    low_frac: float | None = None
    high_frac: float | None = None


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """One case of one run, from wherever: seconds per step of each repeat, or the problem why there are none."""

    case: str
    machine: str
    times_s: tuple[float, ...] = ()
    problem: str | None = None


def timed(records: Sequence[Record]) -> list[Timed]:
    """A sweep run's records."""
    return [
        Timed(case=r.key, machine=r.machine, times_s=r.measurement.times_s)
        if r.outcome.status == "ok" and r.measurement is not None
        else Timed(case=r.key, machine=r.machine, problem=str(r.outcome.reason))
        for r in records
    ]


def compare(base: Sequence[Timed], head: Sequence[Timed], apart: Between | None = None) -> tuple[Compared, ...]:
    """Every case of either run, in head's order, base's own last. `apart`: how far processes of one case differ."""
    theirs, ours = {t.case: t for t in base}, {t.case: t for t in head}
    return tuple(_compare(name, theirs, ours, apart) for name in dict.fromkeys((*ours, *theirs)))


class Agreement(NamedTuple):
    """How many of the cases compared agree: their difference is within the joint 95 % interval of both runs."""

    agree: int
    compared: int
    apart: Between | None = None

    @property
    def words(self) -> str:
        """In one sentence."""
        share = f" ({100 * self.agree / self.compared:.0f} %)" if self.compared else ""
        return (
            f"{self.agree} of {self.compared} cases{share} agree within their joint 95 % intervals, as equal runs "
            f"should in 95 %; {self._allowance}"
        )

    @property
    def _allowance(self) -> str:
        if self.apart is None:
            return "how far processes of one case differ is not known (too few cases were measured twice)"
        return (
            f"the intervals allow for {percent(self.apart.frac)} between processes, "
            f"as {self.apart.pairs} cases measured twice have it"
        )


def agreement(found: Sequence[Compared], apart: Between | None = None) -> Agreement:
    """Of the cases that could be compared, allowing for `apart`."""
    known = [c for c in found if c.low_frac is not None and c.high_frac is not None]
    return Agreement(sum(c.low_frac <= 0 <= c.high_frac for c in known), len(known), apart)  # type: ignore[operator]


def _compare(name: str, base: Mapping[str, Timed], head: Mapping[str, Timed], apart: Between | None) -> Compared:
    for run, side in ((base, "base"), (head, "head")):
        if name not in run:
            return Compared(case=name, reason=Reason("one_sided", f"{side} does not have it"))
    old, new = base[name], head[name]
    for found, side in ((old, "base"), (new, "head")):
        problem = found.problem or (None if usable(found.times_s) else "its times are not positive numbers")
        if problem:
            return Compared(case=name, reason=Reason("no_result", f"{side}: {problem}"))
    if old.machine != new.machine:
        return Compared(case=name, reason=Reason("machine", "the runs are of different machines or software"))
    return _measured(name, old.times_s, new.times_s, apart)


def _measured(name: str, old: Sequence[float], new: Sequence[float], apart: Between | None) -> Compared:
    if min(len(old), len(new)) < 2:
        told = "one figure on a side: nothing bounds the change"
        change = median(new) / median(old) - 1
        reason = Reason("compared", told)
        return Compared(case=name, reason=reason, base_step_s=median(old), head_step_s=median(new), change_frac=change)
    ratio = widened(ratio_of_medians(new, old), apart)
    beyond = "the repeats" if apart is None else "repeats and processes"
    differs = f"differs beyond {beyond}" if ratio.excludes_one else f"no difference beyond {beyond}"
    return Compared(
        case=name,
        reason=Reason("compared", differs),
        base_step_s=median(old),
        head_step_s=median(new),
        change_frac=ratio.value - 1,
        low_frac=ratio.low - 1,
        high_frac=ratio.high - 1,
    )
