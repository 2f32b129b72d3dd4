"""The torch module around FBGEMM's split table-batched embeddings. Imports torch and fbgemm."""

from __future__ import annotations

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


class TableBatched(Embedding):
    """One kernel for all tables of one pooling mode; dims may differ. The optimizer runs inside backward."""

    fused_optimizer = True

    def __init__(
        self, tables: tuple[TableSpec, ...], *, device: str, dtype: torch.dtype, optimizer: str, learning_rate: float
    ) -> None:
        super().__init__(tables, group(tables, lambda t: (t.pooling, t.weighted)), device, dtype)
        if optimizer not in OPTIMIZERS:
            raise unknown("optimizer", optimizer, list(OPTIMIZERS))
        self.ops = nn.ModuleList(
            self._op([tables[t] for t in members], optimizer, learning_rate) for members in self.groups
        )

    def _op(self, tables: list[TableSpec], optimizer: str, learning_rate: float) -> nn.Module:
        cpu = self.device.type == "cpu"
        place = EmbeddingLocation.HOST if cpu else EmbeddingLocation.DEVICE
        compute = ComputeDevice.CPU if cpu else ComputeDevice.CUDA
        op: nn.Module = SplitTableBatchedEmbeddingBagsCodegen(
            [(t.num_rows, t.dim, place, compute) for t in tables],
            optimizer=OPTIMIZERS[optimizer],
            learning_rate=learning_rate,
            pooling_mode=POOLING[tables[0].pooling],
            device=self.device,
            # The extra pass over all indices is FBGEMM's debugging aid; indices are in range by construction here.
            bounds_check_mode=BoundsCheckMode.NONE,
        )
        return op

    def look_up(self, g: int, bags: Bags) -> Tensor:
        """(B, sum of the group's dims)."""
        output: Tensor = self.ops[g](bags.indices, bags.offsets, bags.weights)
        return output

    def table_weights(self) -> list[Tensor]:
        """Views (num_rows, dim), one per table."""
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
            if isinstance(count := getattr(op, "iter", None), Tensor):
                count.zero_()
            # Set from `iter` in the first step, then counted on its own.
            if isinstance(count := getattr(op, "iter_cpu", None), Tensor):
                count.zero_()
            for states in op.split_optimizer_states():  # type: ignore[operator]
                for state in states:
                    state.detach().zero_()
