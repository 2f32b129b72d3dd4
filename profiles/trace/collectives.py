"""Collectives of one job aligned over its ranks: what was transfer and what was waiting for the others. In ns.

A collective ends on all ranks together, so on the rank that came last it takes the time of the transfer; what it
takes longer elsewhere is waiting. Collectives are aligned by process group, kernel name and their number in order of
launch, over the ranks that have the group. Where these did not launch equally many of a kind, or only one of several
ranks has the group, that kind is left out and said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
import numpy as np

from profiles.trace.columns import NONE, Int64
from profiles.trace.gpu import GpuWork, Kind

Key = tuple[str, str]
Order = dict[Key, Int64]
"""Durations of one rank's collectives by (process group, kernel), in order of launch; group '' is not told."""


class RankComm(msgspec.Struct, frozen=True, kw_only=True):
    """One rank's aligned collectives. `last_count`: in how many of them it came last and let the others wait.

    `common_waiting_ns` is the part of its waiting in collectives of all ranks, which alone is comparable over all.
    """

    collectives: int
    comm_ns: int
    transfer_ns: int
    waiting_ns: int
    common_waiting_ns: int
    last_count: int


class Aligned(msgspec.Struct, frozen=True, kw_only=True):
    """Per rank in the order given; how many collectives were aligned, and which kinds were not, with their counts.

    `common` of them are of all ranks; `unnamed` where no group is told, so that one may hold those of several groups.
    """

    ranks: tuple[RankComm, ...]
    collectives: int
    common: int
    unnamed: bool
    left_out: dict[str, tuple[int, ...]]


def align(found: Sequence[Order]) -> Aligned:
    """The collectives of the ranks (at least one)."""
    count, comm, transfer, waiting, common, last = np.zeros((6, len(found)), np.int64)
    whole, of_all, unnamed = 0, 0, False
    left_out: dict[str, tuple[int, ...]] = {}
    for key in sorted(set().union(*found)):
        members = _members(found, key[0])
        columns = [found[at].get(key, np.zeros(0, np.int64)) for at in members]
        if len({len(column) for column in columns}) > 1 or len(members) < min(2, len(found)):
            left_out[_named(key)] = tuple(len(kinds.get(key, ())) for kinds in found)
            continue
        table = np.stack(columns)
        shortest = table.min(axis=0)
        waited = (table - shortest).sum(axis=1)
        count[members] += len(shortest)
        comm[members] += table.sum(axis=1)
        transfer[members] += shortest.sum()
        waiting[members] += waited
        last[members] += np.bincount(table.argmin(axis=0), minlength=len(members))
        whole += len(shortest)
        unnamed |= not key[0]
        if len(members) == len(found):
            common += waited
            of_all += len(shortest)
    ranks = tuple(
        RankComm(
            collectives=int(count[at]),
            comm_ns=int(comm[at]),
            transfer_ns=int(transfer[at]),
            waiting_ns=int(waiting[at]),
            common_waiting_ns=int(common[at]),
            last_count=int(last[at]),
        )
        for at in range(len(found))
    )
    return Aligned(ranks=ranks, collectives=whole, common=of_all, unnamed=unnamed, left_out=left_out)


def _members(found: Sequence[Order], group: str) -> list[int]:
    """The ranks that have this group. Of a group without a name nobody knows, so all: some may not have launched it."""
    if not group:
        return list(range(len(found)))
    return [at for at, kinds in enumerate(found) if any(name == group for name, _ in kinds)]


def launch_order(work: GpuWork) -> Order:
    """Durations by group and name, in order of launch. Work launched before the trace began belongs to no order."""
    trace = work.trace
    comm = work.only((work.kind == Kind.COMM) & (work.launch != NONE))
    order = np.lexsort([comm.starts_ns, trace.ts_ns[comm.launch]])
    found: dict[Key, list[int]] = {}
    for at, dur in zip(order.tolist(), comm.durs_ns[order].tolist(), strict=True):
        row = int(comm.rows[at])
        said = trace.collectives.get(row)
        group = said.group if said is not None and said.group is not None else ""
        found.setdefault((group, _plain(trace.text(row))), []).append(dur)
    return {key: np.array(durs, np.int64) for key, durs in found.items()}


def _plain(name: str) -> str:
    """A kernel's name without its arguments."""
    return re.split(r"[(<]", name.removeprefix("void "))[0]


def _named(key: Key) -> str:
    return f"{key[1]} of group {key[0]}" if key[0] else key[1]
