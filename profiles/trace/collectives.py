"""Collectives of one job aligned over its ranks: what was transfer and what was waiting for the others. In ns.

A collective ends on all ranks together, so on the rank that came last it takes the time of the transfer; what it
takes longer elsewhere is waiting. Collectives are aligned by process group, kernel name and their number in order of
launch. Where ranks did not launch equally many of a kind, that kind is left out and said.
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
"""Durations of one rank's collectives by (process group, kernel), in order of launch."""


class RankComm(msgspec.Struct, frozen=True, kw_only=True):
    """One rank's aligned collectives. `last_count`: in how many of them it came last and let the others wait."""

    comm_ns: int
    transfer_ns: int
    waiting_ns: int
    last_count: int


class Aligned(msgspec.Struct, frozen=True, kw_only=True):
    """Per rank in the order given; how many collectives were aligned, and which kinds were not, with their counts."""

    ranks: tuple[RankComm, ...]
    collectives: int
    left_out: dict[str, tuple[int, ...]]


def align(found: Sequence[Order]) -> Aligned:
    """The collectives of the ranks (at least one)."""
    durs: list[Int64] = []
    left_out: dict[str, tuple[int, ...]] = {}
    for key in sorted(set().union(*found)):
        columns = [kinds.get(key, np.zeros(0, np.int64)) for kinds in found]
        if len({len(column) for column in columns}) == 1:
            durs.append(np.stack(columns))
        else:
            left_out[_named(key)] = tuple(len(column) for column in columns)
    table = np.concatenate(durs, axis=1) if durs else np.zeros((len(found), 0), np.int64)
    transfer = table.min(axis=0) if table.shape[1] else np.zeros(0, np.int64)
    last = np.bincount(table.argmin(axis=0), minlength=len(found)) if table.shape[1] else np.zeros(len(found), int)
    ranks = tuple(
        RankComm(
            comm_ns=int(row.sum()),
            transfer_ns=int(transfer.sum()),
            waiting_ns=int((row - transfer).sum()),
            last_count=int(last[at]),
        )
        for at, row in enumerate(table)
    )
    return Aligned(ranks=ranks, collectives=table.shape[1], left_out=left_out)


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
