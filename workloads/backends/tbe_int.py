"""FBGEMM int-n-bit table-batched embeddings, for inference: rows as float32, float16, int8 or int4 (`row_type`).

Every row type is made from the same float tables. The check compares with the stored values decoded, so it proves the
kernel; how far those are from the float tables is the quantisation step, range / 255 or / 15 of each row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workloads.backends import tbe
from workloads.spec import SpecError, TableSpec

if TYPE_CHECKING:
    import torch

    from workloads.pooling import Embedding

PLACEMENTS = tbe.PLACEMENTS
ROW_TYPES = ("float32", "float16", "int8", "int4")


def available(device: str, phase: str, optimizer: str = "sgd") -> str | None:
    """Why it cannot run, or None."""
    if phase != "forward":
        return "tbe_int is for inference: FBGEMM's int-n-bit tables have no backward; try 'tbe'"
    return tbe.available(device, phase)


def refuses(tables: tuple[TableSpec, ...]) -> SpecError | None:
    """Why it cannot hold these tables, or None."""
    return tbe.odd_dims(tables)


def build(
    tables: tuple[TableSpec, ...],
    *,
    device: str,
    dtype: torch.dtype,
    optimizer: str | None,
    learning_rate: float,
    placement: str = "device",
    cache_load_factor: float = 0.2,
    bounds_check: str = "none",
) -> Embedding:
    """Module over `tables`; unfilled rows in their `row_type` on `device`."""
    from workloads import tbe_int_module, tbe_module

    storage = tbe_module.Storage(placement, cache_load_factor)
    return tbe_int_module.IntTables(tables, device=device, dtype=dtype, storage=storage, bounds_check=bounds_check)
