"""The ranks of one job side by side: who computes, who waits, and for whom. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bench.inspection import model_result as out
from bench.inspection.converting import us
from bench.inspection.modelling import Analysis
from bench.inspection.result import Device, Inspection, InspectionSet
from bench.inspection.same_rank import same_rank
from profiles.trace.collectives import Aligned, RankComm, align

STANDS_OUT_FRAC = 0.05
"""A rank is named as the straggler where the others wait this share of the span more than it does, in the mean."""


def ordered(found: Sequence[Analysis]) -> list[Analysis]:
    """By rank; traces without one keep their order, at the end."""
    return sorted(found, key=lambda a: (a.inspection.rank is None, a.inspection.rank or 0))


def rank_set(found: Sequence[Analysis]) -> InspectionSet:
    """Several traces, compared where they are ranks with GPU work, each another."""
    sorted_ = ordered(found)
    told = same_rank((a.inspection.rank, a.inspection.file) for a in sorted_)
    return InspectionSet(
        traces=tuple(a.inspection for a in sorted_),
        comparison=None if told else _compared(sorted_),
        not_compared=told,
    )


def _compared(found: Sequence[Analysis]) -> out.Ranks | None:
    devices = [_busiest(a.inspection) for a in found]
    if len(found) < 2 or not any(devices):
        return None
    aligned = align([a.collectives for a in found])
    ranks = tuple(
        _rank(a.inspection, d, comm if comm.collectives else None)
        for a, d, comm in zip(found, devices, aligned.ranks, strict=True)
    )
    last = _straggler(ranks, aligned)
    return out.Ranks(
        ranks=ranks,
        collectives=aligned.collectives,
        left_out=aligned.left_out,
        straggler=None if last is None else ranks[last].rank,
        summary=_summary(ranks, last, aligned),
    )


def _busiest(found: Inspection) -> Device | None:
    return max(found.devices.values(), key=lambda d: d.busy_us, default=None)


def _rank(found: Inspection, device: Device | None, comm: RankComm | None) -> out.Rank:
    return out.Rank(
        rank=found.rank,
        file=found.file,
        span_us=device.span_us if device else 0.0,
        busy_us=device.busy_us if device else 0.0,
        idle_us=device.idle_us if device else 0.0,
        compute_us=device.compute_us if device else 0.0,
        comm_us=device.comm_us if device else 0.0,
        exposed_comm_us=device.exposed_comm_us if device else 0.0,
        transfer_us=us(comm.transfer_ns) if comm else None,
        waiting_us=us(comm.waiting_ns) if comm else None,
        last_count=comm.last_count if comm else None,
    )


def _straggler(ranks: Sequence[out.Rank], aligned: Aligned) -> int | None:
    """Which rank waits least, where the others wait clearly more. Only collectives of all ranks tell."""
    if not aligned.common:
        return None
    waiting = [comm.common_waiting_ns for comm in aligned.ranks]
    least = waiting.index(min(waiting))
    more_us = (_others_ns(aligned, least) - waiting[least]) / 1000
    return least if more_us >= STANDS_OUT_FRAC * ranks[least].span_us else None


def _others_ns(aligned: Aligned, one: int) -> float:
    others = [comm.common_waiting_ns for at, comm in enumerate(aligned.ranks) if at != one]
    return sum(others) / len(others)


_UNNAMED = "The traces name no process groups: collectives of different groups may have been taken for one."


def _summary(ranks: Sequence[out.Rank], straggler: int | None, aligned: Aligned) -> str:
    if not aligned.collectives:
        return "No collective could be aligned over the ranks."
    waiting = sum(comm.waiting_ns for comm in aligned.ranks)
    whole = waiting + sum(comm.transfer_ns for comm in aligned.ranks)
    share = f"{waiting / whole:.0%}" if whole else "0%"
    some = aligned.collectives - aligned.common
    of_some = f" ({some:,} of them of groups of some ranks)" if some else ""
    text = f"{share} of the time in {aligned.collectives:,} collectives{of_some} is waiting for other ranks"
    unnamed = f" {_UNNAMED}" if aligned.unnamed else ""
    if straggler is None:
        none = "no rank stands out" if aligned.common else "none is of all ranks, so no rank is named"
        return f"{text}; {none}.{unnamed}"
    last, comm = ranks[straggler], aligned.ranks[straggler]
    others_ms, own_ms = _others_ns(aligned, straggler) / 1e6, comm.common_waiting_ns / 1e6
    name = f"rank {last.rank}" if last.rank is not None else last.file
    where = " in those of all ranks" if some else ""
    return (
        f"{text}; {name} comes last in {comm.last_count} of them: it waits {own_ms:.3f} ms{where}, the others "
        f"{others_ms:.3f} ms in the mean.{unnamed}"
    )
