"""Second-order terms over rows (w_i, v_i), and the model around them. Imports torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workloads.layers import Annotated, DotInteraction
from workloads.pooling import Bags, Embedding


class Factorization(nn.Module):
    """w_0 + sum of w_i + a second-order term, for F rows (w_i, v_i) of 1 + d elements each.

    forward(rows (B, F, 1 + d)) -> (B,). Subclasses give the second-order term.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, rows: Tensor) -> Tensor:
        """See the class."""
        return self.bias + rows[:, :, 0].sum(1) + self.second_order(rows[:, :, 1:])

    def second_order(self, factors: Tensor) -> Tensor:
        """(B,) from v (B, F, d)."""
        raise NotImplementedError

    def absolute_terms(self, rows: Tensor) -> Tensor:
        """(B,): the sum of absolute values of what is added up, to which rounding errors are relative."""
        magnitudes = rows.abs()
        return self.bias.abs() + magnitudes[:, :, 0].sum(1) + self.absolute_second_order(magnitudes[:, :, 1:])

    def absolute_second_order(self, magnitudes: Tensor) -> Tensor:
        """(B,) from |v| (B, F, d); here for inner products: half the squared sum, the largest intermediate result."""
        return 0.5 * magnitudes.sum(1).square().sum(1)


class PairwiseProducts(Factorization):
    """sum over i < j of <v_i, v_j>, each product computed: O(F^2 d)."""

    def __init__(self, num_vectors: int, dim: int) -> None:
        super().__init__()
        self.dots = DotInteraction(num_vectors, dim, False)

    def second_order(self, factors: Tensor) -> Tensor:
        """(B,) from v (B, F, d)."""
        products: Tensor = self.dots(None, factors.flatten(1))
        return products.sum(1)


class SquareOfSum(Factorization):
    """The same sum as half of |sum of v_i|^2 - sum of |v_i|^2: O(F d)."""

    def second_order(self, factors: Tensor) -> Tensor:
        """(B,) from v (B, F, d)."""
        return 0.5 * (factors.sum(1).square() - factors.square().sum(1)).sum(1)


class PairBlocks(Factorization):
    """sum over i < j of v_i^T W_ij v_j with a d x d block per pair: weight (P, d, d), P = F(F-1)/2."""

    left: Tensor
    right: Tensor

    def __init__(self, num_vectors: int, dim: int) -> None:
        super().__init__()
        left, right = torch.triu_indices(num_vectors, num_vectors, 1)
        self.register_buffer("left", left, persistent=False)
        self.register_buffer("right", right, persistent=False)
        self.weight = nn.Parameter(torch.empty(left.numel(), dim, dim).uniform_(-(dim**-0.5), dim**-0.5))

    def second_order(self, factors: Tensor) -> Tensor:
        """(B,) from v (B, F, d)."""
        return self._blocks(factors, self.weight)

    def absolute_second_order(self, magnitudes: Tensor) -> Tensor:
        """(B,) from |v| (B, F, d)."""
        return self._blocks(magnitudes, self.weight.abs())

    def _blocks(self, factors: Tensor, weight: Tensor) -> Tensor:
        by_pair = factors.transpose(0, 1)
        products = torch.bmm(by_pair.index_select(0, self.left), weight)
        return (products * by_pair.index_select(0, self.right)).sum((0, 2))


class Factorized(Annotated):
    """Rows (w_i, v_i) of all features into a Factorization; with `top`, an MLP on all v_i beside it (DeepFM).

    forward(dense (B, num_dense), embedding inputs) -> logits (B,). A bottom MLP's output is one more row.
    """

    def __init__(
        self, embedding: Embedding, bottom: nn.Module | None, interaction: Factorization, top: nn.Module | None = None
    ) -> None:
        super().__init__(embedding)
        self.bottom, self.interaction, self.top = bottom, interaction, top
        self.dim = embedding.tables[0].dim

    def forward(self, dense: Tensor, inputs: tuple[Bags, ...]) -> Tensor:
        """See the class."""
        with self.annotate("embedding"):
            pooled = self.embedding(inputs)
        return self.rank(dense, pooled)

    def rank(self, dense: Tensor, pooled: Tensor) -> Tensor:
        """Logits (B,) from dense features (B, num_dense) and pooled rows (B, F*(1 + d))."""
        rows = self.rows(dense, pooled)
        with self.annotate("interaction"):
            logits: Tensor = self.interaction(rows)
        if self.top is None:
            return logits
        with self.annotate("top_mlp"):
            deep: Tensor = self.top(rows[:, :, 1:].flatten(1)).squeeze(1)
            return logits + deep

    def parameter_counts(self) -> dict[str, int]:
        """w_0 apart as `bias`: it belongs to no interaction."""
        counts = super().parameter_counts()
        bias = self.interaction.bias.numel()
        return counts | {"interaction": counts["interaction"] - bias, "bias": bias}

    def logit_terms(self, dense: Tensor, pooled: Tensor) -> Tensor:
        """(B,): the absolute terms of the factorization; those of the MLP's last layer come on top."""
        return self.interaction.absolute_terms(self.rows(dense, pooled))

    def rows(self, dense: Tensor, pooled: Tensor) -> Tensor:
        """What interacts: (B, F, 1 + d) from dense features (B, num_dense) and pooled rows (B, T*(1 + d))."""
        if self.bottom is None:
            return pooled.view(pooled.shape[0], -1, self.dim)
        with self.annotate("bottom_mlp"):
            bottom = self.bottom(dense)
        return torch.cat((bottom, pooled), dim=1).view(pooled.shape[0], -1, self.dim)


class InnerProduct(Factorization):
    """<v_1, v_2> of two features: matrix factorization."""

    def second_order(self, factors: Tensor) -> Tensor:
        """(B,) from v (B, 2, d)."""
        return (factors[:, 0] * factors[:, 1]).sum(1)


class FirstOrder(Factorization):
    """No second-order term: the sum of w_0 and all pooled weights."""

    def forward(self, rows: Tensor) -> Tensor:
        """(B,) from pooled weights (B, T, 1)."""
        return self.bias + rows.sum((1, 2))

    def absolute_terms(self, rows: Tensor) -> Tensor:
        """(B,): the sum of absolute pooled weights."""
        return self.bias.abs() + rows.abs().sum((1, 2))
