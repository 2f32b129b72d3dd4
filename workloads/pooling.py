"""What every embedding backend shares, and the two backends made of torch.nn.EmbeddingBag. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from workloads.batch import Batch
from workloads.spec import TableSpec
from workloads.tables import fill_table

Group = tuple[int, ...]


class Bags(NamedTuple):
    """Lookups of one group of G tables: indices (N,), offsets (G*B+1,), weights (N,) or None."""

    indices: Tensor
    offsets: Tensor
    weights: Tensor | None


class Embedding(nn.Module):
    """Pooled lookups in T tables; subclasses set how groups of tables are stored and looked up.

    `groups` says which tables share one kernel call. `fused_optimizer` is whether backward updates the tables.
    `output_device` is where pooled rows go, another one than the tables' where those lie in host memory.
    """

    fused_optimizer = False

    def __init__(self, tables: tuple[TableSpec, ...], groups: Sequence[Group], device: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.tables, self.groups = tables, tuple(groups)
        self.device, self.dtype = torch.device(device), dtype
        self.output_device = self.device
        self.in_order = [t for g in self.groups for t in g] == list(range(len(tables)))

    def prepare(self, batch: Batch) -> tuple[Bags, ...]:
        """A batch as this backend wants it, on its device; done outside the timed region."""
        return tuple(self._bags(batch, group) for group in self.groups)

    def _bags(self, batch: Batch, group: Group) -> Bags:
        parts = [batch.table(t) for t in group]
        starts = np.cumsum([0, *(p.indices.size for p in parts)])
        bases = self.row_bases(group)
        indices = [p.indices + base if base else p.indices for p, base in zip(parts, bases, strict=True)]
        offsets = [p.offsets[:-1] + s for p, s in zip(parts, starts, strict=False)] + [starts[-1:]]
        weights = [p.weights for p in parts if p.weights is not None and self.tables[group[0]].weighted]
        return Bags(
            self._to_device(np.concatenate(indices)),
            self._to_device(np.concatenate(offsets)),
            self._to_device(np.concatenate(weights)) if weights else None,
        )

    def _to_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def row_bases(self, group: Group) -> list[int]:
        """What to add to each table's indices: 0 unless the tables of a group share one index space."""
        return [0] * len(group)

    def forward(self, inputs: tuple[Bags, ...]) -> Tensor:
        """Pooled rows (B, sum of dims), tables in the order of the spec."""
        outputs = [self.look_up(g, bags) for g, bags in enumerate(inputs)]
        if len(outputs) == 1:
            return outputs[0].to(self.output_device, self.dtype)
        if not self.in_order:
            outputs = self._by_table(outputs)
        return torch.cat(outputs, dim=1).to(self.output_device, self.dtype)

    def _by_table(self, outputs: list[Tensor]) -> list[Tensor]:
        split: dict[int, Tensor] = {}
        for group, output in zip(self.groups, outputs, strict=True):
            split |= zip(group, torch.split(output, [self.tables[t].dim for t in group], dim=1), strict=True)
        return [split[t] for t in range(len(self.tables))]

    def look_up(self, g: int, bags: Bags) -> Tensor:
        """Pooled rows of group number `g`: (B, sum of its dims)."""
        raise NotImplementedError

    def table_weights(self) -> list[Tensor]:
        """Views (num_rows, dim) of the weights, one per table, for filling and checking."""
        raise NotImplementedError

    def table_sizes(self) -> list[int]:
        """Weights of each table: rows times dim."""
        return [weight.numel() for weight in self.table_weights()]

    def fill(self, seed: int, num_threads: int | None = None) -> None:
        """Random values into every table, the same on every backend."""
        for number, weight in enumerate(self.table_weights()):
            fill_table(weight, seed, number, num_threads)

    def take_rows(self, t: int, rows: np.ndarray) -> np.ndarray:
        """A copy (u, dim) float32 of `rows` (u,) of table `t`, for checking."""
        weight = self.table_weights()[t]
        taken: np.ndarray = weight.index_select(0, torch.from_numpy(rows).to(weight.device)).cpu().numpy()
        return taken

    def set_learning_rate(self, learning_rate: float) -> None:
        """Learning rate of a fused optimizer; nothing to do where the optimizer is torch's."""

    def reset_optimizer_state(self) -> None:
        """Forget what a fused optimizer accumulated."""


class GroupedBags(Embedding):
    """One nn.EmbeddingBag with sparse gradients per group; the rows of a group's tables lie one after the other."""

    def __init__(
        self, tables: tuple[TableSpec, ...], groups: Sequence[Group], *, device: str, dtype: torch.dtype
    ) -> None:
        super().__init__(tables, groups, device, dtype)
        self.bags = nn.ModuleList(self._bag([tables[t] for t in group]) for group in self.groups)

    def _bag(self, tables: list[TableSpec]) -> nn.EmbeddingBag:
        rows, first = sum(t.num_rows for t in tables), tables[0]
        # Unwritten memory: torch's default init would draw normals for every row on one thread, then be overwritten.
        weight = torch.empty(rows, first.dim, device=self.device)
        return nn.EmbeddingBag(
            rows, first.dim, mode=first.pooling, sparse=True, include_last_offset=True, _weight=weight
        )

    def row_bases(self, group: Group) -> list[int]:
        """First row of each table of the group in the shared storage."""
        rows = [self.tables[t].num_rows for t in group]
        return [sum(rows[:i]) for i in range(len(rows))]

    def look_up(self, g: int, bags: Bags) -> Tensor:
        """(B, G*dim); the kernel gives (G*B, dim), so a group of several tables is transposed by a copy."""
        output: Tensor = self.bags[g](bags.indices, bags.offsets, bags.weights)
        size, dim = len(self.groups[g]), output.shape[1]
        if size == 1:
            return output
        return output.view(size, -1, dim).transpose(0, 1).reshape(-1, size * dim)

    def table_weights(self) -> list[Tensor]:
        """Views (num_rows, dim), one per table."""
        views: dict[int, Tensor] = {}
        for group, bag in zip(self.groups, self.bags, strict=True):
            rows = [self.tables[t].num_rows for t in group]
            views |= zip(group, torch.split(bag.get_parameter("weight").detach(), rows), strict=True)
        return [views[t] for t in range(len(self.tables))]


def group(tables: tuple[TableSpec, ...], key: Callable[[TableSpec], Hashable]) -> list[Group]:
    """Table numbers grouped by `key`, groups in the order of their first table."""
    groups: dict[Hashable, list[int]] = {}
    for t, table in enumerate(tables):
        groups.setdefault(key(table), []).append(t)
    return [tuple(members) for members in groups.values()]
