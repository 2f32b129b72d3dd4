"""What storing rows in fewer bits costs in accuracy: pooled rows against those of the float32 tables. Imports torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from workloads import reference
from workloads.batch import Batch
from workloads.steps import ModelBundle
from workloads.tables import fill_table


def rounding_error(bundle: ModelBundle, batch: Batch, seed: int, num_threads: int | None = None) -> float | None:
    """|pooled(stored rows) - pooled(float32 rows)| / |pooled(float32 rows)| in the L2 norm, over all tables.

    Both are pooled in float64, so this is the rows' own error and not a kernel's (that is what the check compares).
    The float32 tables are made again from `seed`, one at a time. None where every row is float32 anyway.
    """
    if all(table.row_type == "float32" for table in bundle.spec.tables):
        return None
    error = total = 0.0
    for t, stored in enumerate(reference.touched_tables(bundle, batch)):
        table = bundle.spec.tables[t]
        exact = reference.touched(table, batch.table(t), _float_rows(table.num_rows, table.dim, seed, t, num_threads))
        expected = exact.pool @ exact.values.astype(np.float64)
        difference = stored.pool @ stored.values.astype(np.float64) - expected
        error += float(np.square(difference).sum())
        total += float(np.square(expected).sum())
    return float(np.sqrt(error / total)) if total else None


def _float_rows(
    num_rows: int, dim: int, seed: int, number: int, num_threads: int | None
) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    """Takes rows (u,) of a table as it was before it was stored."""
    values = torch.empty(num_rows, dim)
    fill_table(values, seed, number, num_threads)

    def take(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        taken: NDArray[np.float32] = values.index_select(0, torch.from_numpy(rows)).numpy()
        return taken

    return take
