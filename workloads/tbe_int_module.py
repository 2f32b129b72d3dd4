"""The torch module around FBGEMM's int-n-bit inference embeddings. Imports torch and fbgemm."""

from __future__ import annotations

import numpy as np
import torch
from fbgemm_gpu.split_embedding_configs import SparseType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import BoundsCheckMode, PoolingMode
from fbgemm_gpu.split_table_batched_embeddings_ops_inference import IntNBitTableBatchedEmbeddingBagsCodegen
from numpy.typing import NDArray
from torch import Tensor, nn

from workloads.pooling import Bags, Embedding, group
from workloads.spec import TableSpec
from workloads.tables import fill_table
from workloads.tbe_module import Storage

TYPES = {
    "float32": SparseType.FP32,
    "float16": SparseType.FP16,
    "int8": SparseType.INT8,
    "int4": SparseType.INT4,
}
POOLING = {"sum": PoolingMode.SUM, "mean": PoolingMode.MEAN}
CHUNK_ROWS = 1 << 16


class IntTables(Embedding):
    """One kernel for all tables of one pooling mode; rows are stored in their tables' `row_type`, sums are float32.

    int8 and int4 rows begin with scale and bias as float16: value = scale * code + bias, per row.
    """

    def __init__(
        self,
        tables: tuple[TableSpec, ...],
        *,
        device: str,
        dtype: torch.dtype,
        storage: Storage | None = None,
        bounds_check: str = "none",
    ) -> None:
        super().__init__(tables, group(tables, lambda t: (t.pooling, t.weighted)), device, dtype)
        self.storage = storage or Storage()
        self.bounds_check = BoundsCheckMode[bounds_check.upper()]
        self.ops = nn.ModuleList(self._op([tables[t] for t in members]) for members in self.groups)

    def _op(self, tables: list[TableSpec]) -> nn.Module:
        place = self.storage.location(self.device)
        op = IntNBitTableBatchedEmbeddingBagsCodegen(
            [(t.name, t.num_rows, t.dim, TYPES[t.row_type], place) for t in tables],
            pooling_mode=POOLING[tables[0].pooling],
            device=self.device,
            output_dtype=SparseType.FP32,
            bounds_check_mode=self.bounds_check,
            indices_dtype=torch.int64,
            cache_load_factor=self.storage.cache_load_factor,
        )
        op.initialize_weights()
        module: nn.Module = op
        return module

    def look_up(self, g: int, bags: Bags) -> Tensor:
        """(B, sum of the group's dims)."""
        output: Tensor = self.ops[g](bags.indices, bags.offsets, bags.weights)
        return output

    def stored_rows(self) -> list[Tensor]:
        """Views (num_rows, row bytes) uint8 of the rows as stored, one per table."""
        views: dict[int, Tensor] = {}
        for members, op in zip(self.groups, self.ops, strict=True):
            rows = op.split_embedding_weights(split_scale_shifts=False)  # type: ignore[operator]
            views |= zip(members, (weight for weight, _ in rows), strict=True)
        return [views[t] for t in range(len(self.tables))]

    def fill(self, seed: int, num_threads: int | None = None) -> None:
        """The same float tables as every backend has, one at a time, then stored in the row type."""
        for t, (table, stored) in enumerate(zip(self.tables, self.stored_rows(), strict=True)):
            values = torch.empty(table.num_rows, table.dim)
            fill_table(values, seed, t, num_threads)
            for start in range(0, table.num_rows, CHUNK_ROWS):
                rows = encode(values[start : start + CHUNK_ROWS], table.row_type)
                stored[start : start + CHUNK_ROWS, : rows.shape[1]].copy_(rows)

    def table_sizes(self) -> list[int]:
        """Weights of each table, whatever number of bits each takes."""
        return [rows.shape[0] * table.dim for rows, table in zip(self.stored_rows(), self.tables, strict=True)]

    def take_rows(self, t: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Values (u, D) of the rows as stored, decoded."""
        table, stored = self.tables[t], self.stored_rows()[t]
        taken = stored.index_select(0, torch.from_numpy(rows).to(stored.device)).cpu()
        return decode(taken.numpy(), table.dim, table.row_type)


def encode(values: Tensor, row_type: str) -> Tensor:
    """Rows (n, row bytes) uint8 from values (n, D) float32, by FBGEMM's own quantisation."""
    if row_type == "float32":
        return values.contiguous().view(torch.uint8)
    if row_type == "float16":
        return values.half().view(torch.uint8)
    rows = torch.ops.fbgemm.FloatToFusedNBitRowwiseQuantizedSBHalf(values, 8 if row_type == "int8" else 4)
    # The operator puts scale and bias behind the codes, the tables have them in front.
    return torch.cat((rows[:, -4:], rows[:, :-4]), dim=1)


def decode(rows: NDArray[np.uint8], dim: int, row_type: str) -> NDArray[np.float32]:
    """Values (n, D) float32 from rows (n, at least row bytes) uint8."""
    if row_type in ("float32", "float16"):
        width = dim * (4 if row_type == "float32" else 2)
        return np.ascontiguousarray(rows[:, :width]).view(row_type).astype(np.float32)
    scale_bias = np.ascontiguousarray(rows[:, :4]).view(np.float16).astype(np.float32)
    codes = rows[:, 4:]
    if row_type == "int4":
        codes = np.stack([codes & 15, codes >> 4], axis=2).reshape(rows.shape[0], 2 * codes.shape[1])
    return codes[:, :dim].astype(np.float32) * scale_bias[:, :1] + scale_bias[:, 1:]
