"""The torch modules that variants are made of. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from workloads.pooling import Bags, Embedding

_STAGE_OF = {"bottom": "bottom_mlp", "interaction": "interaction", "top": "top_mlp"}
Annotate = Callable[[str], AbstractContextManager[Any]]

_SILENT: AbstractContextManager[None] = nullcontext()


def silent(stage: str) -> AbstractContextManager[None]:
    """No annotation: what timed steps use, since record_function costs 1-2 us a stage even without a profiler."""
    return _SILENT


class Annotated(nn.Module):
    """A model whose stages run inside `annotate(stage)`; see set_tracing. Holds its embedding as `embedding`."""

    def __init__(self, embedding: Embedding) -> None:
        super().__init__()
        self.embedding = embedding
        self.annotate: Annotate = silent

    def rank(self, dense: Tensor, pooled: Tensor) -> Tensor:
        """What follows the embedding: output from dense features (B, num_dense) and pooled rows (B, sum D)."""
        raise NotImplementedError

    def logit_terms(self, dense: Tensor, pooled: Tensor) -> Tensor | None:
        """(B,): the sum of absolute terms that the logits add up outside their last linear layer; None for none."""
        return None

    def dense_modules(self) -> list[nn.Module]:
        """The modules outside the embedding, which alone take the dense dtype."""
        return [m for name, m in self.named_children() if name != "embedding"]

    def dense_parameters(self) -> list[nn.Parameter]:
        """Parameters of the dense modules."""
        return [p for m in self.dense_modules() for p in m.parameters()]

    def parameter_counts(self) -> dict[str, int]:
        """Parameters of this module by what they belong to: tables, bottom_mlp, interaction, top_mlp."""
        counts = {stage: _count(getattr(self, part, None)) for part, stage in _STAGE_OF.items()}
        return {"tables": sum(self.embedding.table_sizes())} | counts


def _count(part: nn.Module | None) -> int:
    return sum(p.numel() for p in part.parameters()) if part else 0


def set_tracing(model: Any, on: bool) -> None:
    """Annotate the stages of a model, or of what an execution made of it, with record_function (on) or not at all."""
    annotate_with(model, torch.profiler.record_function if on else None)


def annotate_with(model: Any, annotate: Annotate | None) -> None:
    """Run each stage inside `annotate(stage)`; None: inside nothing."""
    model.annotate = silent if annotate is None else annotate


def mlp(widths: Sequence[int], last_relu: bool) -> nn.Sequential:
    """Linear layers widths[0] -> widths[1] -> ..., ReLU between them and, where asked, after the last."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*layers) if last_relu else nn.Sequential(*layers[:-1])


class DotInteraction(nn.Module):
    """Inner products of all pairs of F vectors of width `dim` (with themselves too where `with_self`).

    forward(bottom (B, dim) or None, pooled (B, T*dim)) -> (B, dim + pairs), or (B, pairs) without bottom.
    Computed as a full F x F product, of which the lower triangle is taken by an index made once.
    """

    lower: Tensor

    def __init__(self, num_vectors: int, dim: int, with_self: bool) -> None:
        super().__init__()
        self.dim = dim
        rows, columns = torch.tril_indices(num_vectors, num_vectors, 0 if with_self else -1)
        self.register_buffer("lower", rows * num_vectors + columns, persistent=False)

    def forward(self, bottom: Tensor | None, pooled: Tensor) -> Tensor:
        """See the class."""
        flat = pooled if bottom is None else torch.cat((bottom, pooled), dim=1)
        vectors = flat.view(flat.shape[0], -1, self.dim)
        products = torch.bmm(vectors, vectors.transpose(1, 2))
        pairs = products.flatten(1).index_select(1, self.lower)
        return pairs if bottom is None else torch.cat((bottom, pairs), dim=1)


class CatInteraction(nn.Module):
    """No interaction: forward(bottom (B, w) or None, pooled (B, sum D)) -> (B, w + sum D)."""

    def forward(self, bottom: Tensor | None, pooled: Tensor) -> Tensor:
        """See the class."""
        return pooled if bottom is None else torch.cat((bottom, pooled), dim=1)


class Ranker(Annotated):
    """Embedding and bottom MLP, an interaction of both, a top MLP that ends in the logit.

    forward(dense (B, num_dense), embedding inputs) -> logits (B,).
    """

    def __init__(self, embedding: Embedding, bottom: nn.Module | None, interaction: nn.Module, top: nn.Module) -> None:
        super().__init__(embedding)
        self.bottom, self.interaction, self.top = bottom, interaction, top

    def forward(self, dense: Tensor, inputs: tuple[Bags, ...]) -> Tensor:
        """See the class."""
        with self.annotate("embedding"):
            pooled = self.embedding(inputs)
        return self.rank(dense, pooled)

    def rank(self, dense: Tensor, pooled: Tensor) -> Tensor:
        """Logits (B,) from dense features (B, num_dense) and pooled rows (B, sum D)."""
        with self.annotate("bottom_mlp"):
            bottom = None if self.bottom is None else self.bottom(dense)
        with self.annotate("interaction"):
            features = self.interaction(bottom, pooled)
        with self.annotate("top_mlp"):
            logits: Tensor = self.top(features).squeeze(1)
        return logits


class Pooled(Annotated):
    """The embedding alone: forward(dense, embedding inputs) -> pooled rows (B, sum D)."""

    def forward(self, dense: Tensor, inputs: tuple[Bags, ...]) -> Tensor:
        """See the class."""
        with self.annotate("embedding"):
            pooled: Tensor = self.embedding(inputs)
        return self.rank(dense, pooled)

    def rank(self, dense: Tensor, pooled: Tensor) -> Tensor:
        """The pooled rows as they are."""
        return pooled


class BesideDense(nn.Module):
    """Dense features beside what the interaction makes of the pooled rows alone.

    forward(dense (B, w) or None, pooled (B, sum D)) -> (B, w + interaction's width).
    """

    def __init__(self, interaction: nn.Module) -> None:
        super().__init__()
        self.interaction = interaction

    def forward(self, dense: Tensor | None, pooled: Tensor) -> Tensor:
        """See the class."""
        found: Tensor = self.interaction(None, pooled)
        return found if dense is None else torch.cat((dense, found), dim=1)
