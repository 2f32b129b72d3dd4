"""The torch module around torchrec's EmbeddingBagCollection. Imports torch and torchrec."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from workloads.pooling import Bags, Embedding, group
from workloads.spec import TableSpec

POOLING = {"sum": PoolingType.SUM, "mean": PoolingType.MEAN}


class Collections(Embedding):
    """One unsharded EmbeddingBagCollection for all tables, or one each for weighted and unweighted ones."""

    def __init__(self, tables: tuple[TableSpec, ...], *, device: str, dtype: torch.dtype) -> None:
        super().__init__(tables, group(tables, lambda t: t.weighted), device, dtype)
        self.collections = nn.ModuleList(self._collection(members) for members in self.groups)

    def _collection(self, members: tuple[int, ...]) -> nn.Module:
        configs = [
            EmbeddingBagConfig(
                name=f"table{t}",
                feature_names=[f"feature{t}"],
                num_embeddings=self.tables[t].num_rows,
                embedding_dim=self.tables[t].dim,
                pooling=POOLING[self.tables[t].pooling],
                # torchrec's own filling draws every row on one thread; fill_table writes them afterwards.
                init_fn=lambda weight: weight,
            )
            for t in members
        ]
        collection: nn.Module = EmbeddingBagCollection(
            tables=configs, is_weighted=self.tables[members[0]].weighted, device=self.device
        )
        return collection

    def look_up(self, g: int, bags: Bags) -> Tensor:
        """(B, sum of the group's dims). The jagged tensor is made in every step, as torchrec's models do."""
        keys = [f"feature{t}" for t in self.groups[g]]
        jagged = KeyedJaggedTensor(keys=keys, values=bags.indices, offsets=bags.offsets, weights=bags.weights)
        output: Tensor = self.collections[g](jagged).values()
        return output

    def table_weights(self) -> list[Tensor]:
        """Views (num_rows, dim), one per table."""
        views: dict[int, Tensor] = {}
        for members, collection in zip(self.groups, self.collections, strict=True):
            bags = collection.get_submodule("embedding_bags")
            views |= {t: bags.get_parameter(f"table{t}.weight").detach() for t in members}
        return [views[t] for t in range(len(self.tables))]
