"""The torch module around FBGEMM's split table-batched embeddings. Imports torch and fbgemm."""

from __future__ import annotations

from typing import NamedTuple

import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import BoundsCheckMode, EmbeddingLocation, PoolingMode
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    ComputeDevice,
    SplitTableBatchedEmbeddingBagsCodegen,
)
from torch import Tensor, nn

from workloads.pooling import Bags, Embedding, group
from workloads.spec import TableSpec, unknown

OPTIMIZERS = {
    "sgd": EmbOptimType.EXACT_SGD,
    "rowwise_adagrad": EmbOptimType.EXACT_ROWWISE_ADAGRAD,
    "adam": EmbOptimType.ADAM,
}
POOLING = {"sum": PoolingMode.SUM, "mean": PoolingMode.MEAN}
LOCATIONS = {
    "device": EmbeddingLocation.DEVICE,
    "managed": EmbeddingLocation.MANAGED,
    "managed_caching": EmbeddingLocation.MANAGED_CACHING,
}


class Storage(NamedTuple):
    """Where the tables lie, and the share of rows that managed_caching keeps on the device."""

    placement: str = "device"
    cache_load_factor: float = 0.2

    def location(self, device: torch.device) -> EmbeddingLocation:
        """FBGEMM's name for it; on the CPU that is always HOST."""
        return EmbeddingLocation.HOST if device.type == "cpu" else LOCATIONS[self.placement]


class TableBatched(Embedding):
    """One kernel for all tables of one pooling mode; dims may differ. The optimizer runs inside backward."""

    fused_optimizer = True

    def __init__(
        self,
        tables: tuple[TableSpec, ...],
        *,
        device: str,
        dtype: torch.dtype,
        optimizer: str,
        learning_rate: float,
        storage: Storage | None = None,
        bounds_check: str = "none",
    ) -> None:
        super().__init__(tables, group(tables, lambda t: (t.pooling, t.weighted)), device, dtype)
        if optimizer not in OPTIMIZERS:
            raise unknown("optimizer", optimizer, list(OPTIMIZERS))
        self.optimizer, self.storage = optimizer, storage or Storage()
        self.bounds_check = BoundsCheckMode[bounds_check.upper()]
        self.ops = nn.ModuleList(
            self._op([tables[t] for t in members], optimizer, learning_rate) for members in self.groups
        )

    def _op(self, tables: list[TableSpec], optimizer: str, learning_rate: float) -> nn.Module:
        place = self.storage.location(self.device)
        compute = ComputeDevice.CPU if self.device.type == "cpu" else ComputeDevice.CUDA
        op: nn.Module = SplitTableBatchedEmbeddingBagsCodegen(
            [(t.num_rows, t.dim, place, compute) for t in tables],
            optimizer=OPTIMIZERS[optimizer],
            learning_rate=learning_rate,
            pooling_mode=POOLING[tables[0].pooling],
            device=self.device,
            cache_load_factor=self.storage.cache_load_factor,
            # The extra pass over all indices is FBGEMM's debugging aid; indices are in range by construction here.
            bounds_check_mode=self.bounds_check,
        )
        return op

    def look_up(self, g: int, bags: Bags) -> Tensor:
        """(B, sum of the group's dims)."""
        output: Tensor = self.ops[g](bags.indices, bags.offsets, bags.weights)
        return output

    def table_weights(self) -> list[Tensor]:
        """Views (num_rows, dim), one per table. Rows cached on the device are written back and the cache emptied.

        So what is read through the views is current, and what is written through them is seen by the next lookup.
        """
        if self.storage.placement == "managed_caching":
            for op in self.ops:
                op.flush()  # type: ignore[operator]
                op.reset_cache_states()  # type: ignore[operator]
        views: dict[int, Tensor] = {}
        for members, op in zip(self.groups, self.ops, strict=True):
            views |= zip(members, self._views(op), strict=True)
        return [views[t].detach() for t in range(len(self.tables))]

    def _views(self, op: nn.Module) -> list[Tensor]:
        views: list[Tensor] = op.split_embedding_weights()  # type: ignore[operator]
        return views

    def set_learning_rate(self, learning_rate: float) -> None:
        """Learning rate of the next backward passes."""
        for op in self.ops:
            op.set_learning_rate(learning_rate)  # type: ignore[operator]

    def reset_optimizer_state(self) -> None:
        """Zero moments and accumulated squares, and the count of steps that Adam corrects by."""
        for op in self.ops:
            # FBGEMM reads a count of zero back from the device, which a CUDA graph cannot hold: only Adam needs it.
            for name in ("iter", "iter_cpu") if self.optimizer == "adam" else ():
                if isinstance(count := getattr(op, name, None), Tensor):
                    count.zero_()
            for states in op.split_optimizer_states():  # type: ignore[operator]
                for state in states:
                    state.detach().zero_()
