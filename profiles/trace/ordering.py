"""Tables and rows in an order that does not depend on the order of the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiles.trace.columns import Int64, Ints, Lane
from profiles.trace.decode import Word
from profiles.trace.fields import narrow, process


def joined(chunks: list[NDArray[Any]]) -> NDArray[Any]:
    """One column of its chunks."""
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int64)


def sorted_names(found: Sequence[str | None], codes: Ints) -> tuple[tuple[str, ...], Ints]:
    """Names in alphabetical order, so that codes do not depend on the order of the file."""
    texts = [name or "" for name in found]
    names = sorted(set(texts))
    at = {name: code for code, name in enumerate(names)}
    return tuple(names), narrow(
        np.array([at[t] for t in texts], np.int64)[codes] if len(codes) else np.zeros(0, np.int64)
    )


def merged_lanes(found: Sequence[tuple[Word, Word]], codes: Ints) -> tuple[tuple[Lane, ...], Ints]:
    """Lanes with pids and tids of one spelling, in order."""
    spelled = [(process(pid), process(tid)) for pid, tid in found]
    lanes = sorted(set(spelled), key=lambda lane: [(isinstance(part, str), part) for part in lane])
    at = {lane: code for code, lane in enumerate(lanes)}
    return tuple(lanes), narrow(
        np.array([at[lane] for lane in spelled], np.int64)[codes] if len(codes) else np.zeros(0, np.int64)
    )


def order_of(columns: Mapping[str, NDArray[Any]]) -> Int64 | None:
    """Rows by start, then longer first, then what else tells two events apart; None where they are in order."""
    ts_ns: Int64 = columns["ts_ns"]
    order = np.argsort(ts_ns, kind="stable")
    ties = np.flatnonzero(np.diff(ts_ns[order]) == 0)
    if len(ties):
        tied = np.union1d(ties, ties + 1)
        rows = order[tied]
        keys = [columns[f][rows] for f in ("correlation", "lane", "name", "category", "external_id")]
        order[tied] = rows[np.lexsort([*keys, -columns["dur_ns"][rows], ts_ns[rows]])]
    return None if np.array_equal(order, np.arange(len(order))) else order
