"""How the host's ops were spent on a trace without a GPU: many tiny ones, and equal calls of unequal length. In ns."""

from __future__ import annotations

import numpy as np

from profiles.trace.columns import NONE, Int64
from profiles.trace.components import Components, busiest_lane
from profiles.trace.homes import Bools
from profiles.trace.shapes import SIZES
from profiles.trace.stacks import Frame

FEWEST_CALLS = 3


def tiny_ops(found: Components, host: Bools, below_ns: int) -> tuple[int, int, int, int]:
    """(own time of all ops, how many, own time of those shorter than `below_ns` on the busiest thread, how many)."""
    held = found.stacks
    ops = host & (held.frame != Frame.ANNOTATION)
    durs = held.trace.dur_ns[held.rows]
    tiny = ops & (durs < below_ns) & (held.trace.lane[held.rows] == busiest_lane(found, host))
    own = found.own_ns
    return int(own[ops].sum()), int(ops.sum()), int(own[tiny].sum()), int(tiny.sum())


def uneven_ns(found: Components, host: Bools, least_bytes: int) -> int:
    """Own time beyond the fastest call of the same op, shapes and component, of ops on `least_bytes` or more."""
    held = found.stacks
    trace = held.trace
    large = np.array([_largest_bytes(i.dims, i.types) >= least_bytes for i in trace.input_table] + [False], bool)
    inputs = trace.inputs[held.rows].astype(np.int64)
    rows = np.flatnonzero(host & (held.frame == Frame.OP) & (inputs != NONE) & large[inputs])
    if not len(rows):
        return 0
    keys = np.stack([found.host[rows], inputs[rows], trace.name[held.rows[rows]].astype(np.int64)])
    order = np.lexsort(keys)
    own: Int64 = found.own_ns[rows[order]]
    first = np.flatnonzero(np.append(True, np.any(np.diff(keys[:, order], axis=1) != 0, axis=0)))
    counts = np.diff(np.append(first, len(own)))
    fastest, total = np.minimum.reduceat(own, first), np.add.reduceat(own, first)
    return int((total - counts * fastest)[counts >= FEWEST_CALLS].sum())


def _largest_bytes(dims: object, types: object) -> int:
    """Bytes of the largest tensor among the inputs; 0 where that was not recorded."""
    if not isinstance(dims, list) or not isinstance(types, list):
        return 0
    sizes = [0]
    for shape, kind in zip(dims, types, strict=False):
        if isinstance(shape, list) and shape and all(isinstance(n, int) for n in shape) and isinstance(kind, str):
            sizes.append(int(np.prod(shape, dtype=np.int64)) * SIZES.get(kind, 0))
    return max(sizes)
