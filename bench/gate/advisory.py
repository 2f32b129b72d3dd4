"""Two sweep runs case by case. One process per case and side: what differs may be the process. Pure, advisory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

import msgspec

from bench.gate.verdict import Reason
from bench.records import Record
from bench.stats import ratio_of_medians

ADVICE = "advisory: one process per case and side, so that a difference may be the process's; the gate decides"


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One case of two runs. change_frac: head's median step time over base's, less one; low and high hold 95 %.

    The interval is that of repeats within two processes and knows nothing of what differs between processes.
    """

    case: str
    reason: Reason
    base_step_s: float | None = None
    head_step_s: float | None = None
    change_frac: float | None = None
    low_frac: float | None = None
    high_frac: float | None = None


def compare(base: Sequence[Record], head: Sequence[Record]) -> tuple[Compared, ...]:
    """Every case of either run, in head's order, base's own last."""
    theirs, ours = {r.key: r for r in base}, {r.key: r for r in head}
    return tuple(_compare(key, theirs, ours) for key in dict.fromkeys((*ours, *theirs)))


class Agreement(NamedTuple):
    """How many of the cases compared agree: their difference is within the joint 95 % interval of both runs."""

    agree: int
    compared: int

    @property
    def words(self) -> str:
        """In one sentence."""
        share = f" ({100 * self.agree / self.compared:.0f} %)" if self.compared else ""
        return (
            f"{self.agree} of {self.compared} cases{share} agree within their joint 95 % intervals; equal runs "
            "should in 95 %, and what is missing from that is how far processes differ beyond the repeats within one"
        )


def agreement(found: Sequence[Compared]) -> Agreement:
    """Of the cases that could be compared."""
    known = [c for c in found if c.low_frac is not None and c.high_frac is not None]
    return Agreement(sum(c.low_frac <= 0 <= c.high_frac for c in known), len(known))  # type: ignore[operator]


def _compare(key: str, base: Mapping[str, Record], head: Mapping[str, Record]) -> Compared:
    for run, name in ((base, "base"), (head, "head")):
        if key not in run:
            return Compared(case=key, reason=Reason("one_sided", f"{name} does not have it"))
    old, new = base[key], head[key]
    for record, name in ((old, "base"), (new, "head")):
        if record.outcome.status != "ok" or record.measurement is None:
            return Compared(case=key, reason=Reason("no_result", f"{name}: {record.outcome.reason}"))
    if old.machine != new.machine:
        return Compared(case=key, reason=Reason("machine", "the runs are of different machines or software"))
    return _measured(key, old, new)


def _measured(key: str, old: Record, new: Record) -> Compared:
    if old.measurement is None or new.measurement is None:
        raise ValueError("both records need a measurement")
    ratio = ratio_of_medians(new.measurement.times_s, old.measurement.times_s)
    differs = "differs within these two processes" if ratio.excludes_one else "no difference beyond the repeats"
    return Compared(
        case=key,
        reason=Reason("compared", differs),
        base_step_s=median(old.measurement.times_s),
        head_step_s=median(new.measurement.times_s),
        change_frac=ratio.value - 1,
        low_frac=ratio.low - 1,
        high_frac=ratio.high - 1,
    )
