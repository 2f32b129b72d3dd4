"""Pooling-factor laws: how many rows each bag looks up. A law is a function and its entry in LAWS. No torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from workloads.spec import TableSpec, unknown

Draw = Callable[[np.random.Generator, TableSpec, int], NDArray[np.int64]]


def draw_lengths(table: TableSpec, seed: tuple[int, ...], batch_size: int) -> NDArray[np.int64]:
    """Lengths (B,) of the table's bags, mean `pooling_factor`. Raises SpecError for an unknown law."""
    if table.lengths not in LAWS:
        raise unknown("lengths", table.lengths, names())
    return LAWS[table.lengths](np.random.Generator(np.random.SFC64(list(seed))), table, batch_size)


def names() -> list[str]:
    """Ids of all laws."""
    return sorted(LAWS)


def _fixed(generator: np.random.Generator, table: TableSpec, batch_size: int) -> NDArray[np.int64]:
    return np.full(batch_size, int(table.pooling_factor), dtype=np.int64)


LAWS: dict[str, Draw] = {"fixed": _fixed}
