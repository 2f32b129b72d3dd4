"""FLOPs and logical bytes of embedding lookups: torch's bags and FBGEMM's table-batched ones."""

from __future__ import annotations

import re
from math import prod
from typing import Any, NamedTuple

from profiles.trace.shapes import LOGICAL, Call, OpWork, is_tensor


def _lookups(rows: int, dim: int, weight: int, bags: int, out: int, index_bytes: float, table: int | None) -> OpWork:
    return OpWork(
        float(rows * dim),
        rows * dim * weight + bags * dim * out + index_bytes,
        LOGICAL,
        row_bytes=dim * weight,
        table_bytes=table,
    )


def embedding_bag(call: Call) -> OpWork | None:
    """weight (E, D), indices (n,) or (B, L), offsets: rows read, summed into bags."""
    (rows, dim), ids, offsets = call.dims[0], call.dims[1], call.dims[2]
    weight, index, offset = call.size(0), call.size(1), call.size(2) or call.size(1)
    if weight is None or index is None or offset is None or not ids:
        return None
    # A flag tells whether the last offset ends the last bag; where it was not recorded, it begins one.
    ends = call.values[7] in (True, "True") if len(call.values) > 7 else False
    bags = ids[0] if len(ids) == 2 else prod(offsets) - ends
    index_bytes = prod(ids) * index + (prod(offsets) * offset if offsets else 0)
    return _lookups(prod(ids), dim, weight, bags, weight, index_bytes, rows * dim * weight)


def embedding(call: Call) -> OpWork | None:
    """weight (E, D), indices of any shape: rows read and written."""
    (rows, dim), ids = call.dims[0], call.dims[1]
    weight, index = call.size(0), call.size(1)
    if weight is None or index is None:
        return None
    n = prod(ids)
    return _lookups(n, dim, weight, n, weight, n * index, rows * dim * weight)._replace(flops=0.0)


class _Batched(NamedTuple):
    """A table-batched lookup: tables, lookups, offsets; `scalars` are the values recorded between the dims' offsets."""

    tables: int
    lookups: int
    offsets: int
    scalars: tuple[int | None, int | None]
    index_bytes: int
    table_bytes: int


_LAYOUTS = ([1, 0, 0, 1, 0, 1, 1], [1, 0, 0, 1, 1, 1])


def _batched(call: Call) -> _Batched | None:
    """Found by the order that all versions share: offsets of dims (T+1), two scalars, hash sizes (T+1), in some bits,
    then indices and offsets. None unless the stored rows are float32: no shape tells what else is read with them.
    """
    dims = call.dims
    stored = [prod(d) for at, d in enumerate(dims) if _flat(d) and call.types[at] == "float"]
    places = [(start, layout) for layout in _LAYOUTS for start in range(1, len(dims) - len(layout) + 1)]
    for at, layout in places:
        window = dims[at : at + len(layout)]
        if [len(d) if is_tensor(d) else 0 if d == [] else -1 for d in window] != layout or window[0] != window[3]:
            continue
        tables, index = window[0][0] - 1, call.size(at + len(layout) - 2)
        if tables < 1 or index is None or not stored or max(stored) == 0:
            continue
        scalars = (call.value(at + 1), call.value(at + 2))
        return _Batched(tables, window[-2][0], window[-1][0], scalars, index, max(stored) * 4)
    return None


def _flat(dims: Any) -> bool:
    return is_tensor(dims) and len(dims) == 1


def tbe(call: Call) -> OpWork | None:
    """Known where every table has one dim: total = tables x largest."""
    found = _batched(call)
    if found is None or found.scalars[0] is None or found.scalars[0] != found.tables * (found.scalars[1] or 0):
        return None
    dim, bags = found.scalars[0] // found.tables, found.offsets - 1
    index_bytes = (found.lookups + found.offsets) * found.index_bytes
    return _lookups(found.lookups, dim, 4, bags, 4, index_bytes, found.table_bytes)


_STATE_BYTES = {"sgd": 0, "rowwise_adagrad": 8}
"""Optimizer state that a lookup's row reads and writes beside itself."""


def tbe_backward(name: str, call: Call) -> OpWork | None:
    """Gradient (B, sum D) read once, and per lookup its row read and written."""
    found = _batched(call)
    optimizer = re.search(r"codegen_(\w+?)_(?:un)?weighted", name)
    state = _STATE_BYTES.get(optimizer[1]) if optimizer else None
    total = call.dims[0][1]
    if found is None or state is None or total != found.tables * (found.scalars[0] or 0):
        return None
    dim = total // found.tables
    moved = prod(call.dims[0]) * 4 + found.lookups * (2 * dim * 4 + state) + found.lookups * found.index_bytes
    return OpWork(2.0 * found.lookups * dim, moved, LOGICAL, "float32", dim * 4, found.table_bytes)
