"""Tables of one dim concatenated into one torch.nn.EmbeddingBag: one kernel per dim instead of one per table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workloads.backends import missing_device, missing_torch, only_sgd, other_row_types
from workloads.spec import SpecError, TableSpec

if TYPE_CHECKING:
    import torch

    from workloads.pooling import Embedding


def available(device: str, phase: str, optimizer: str = "sgd") -> str | None:
    """Why it cannot run, or None."""
    return missing_torch() or missing_device(device) or only_sgd(phase, optimizer)


def refuses(tables: tuple[TableSpec, ...]) -> SpecError | None:
    """Why it cannot hold these tables, or None."""
    return other_row_types("fused_bag", tables)


def build(
    tables: tuple[TableSpec, ...], *, device: str, dtype: torch.dtype, optimizer: str | None, learning_rate: float
) -> Embedding:
    """Module over `tables`; unfilled fp32 weights on `device`. `optimizer` is torch's affair."""
    from workloads import pooling

    groups = pooling.group(tables, lambda t: (t.dim, t.pooling, t.weighted))
    return pooling.GroupedBags(tables, groups, device=device, dtype=dtype)
