"""Factorization machine: every pair of features by the inner product of their shared embeddings.

Rendle 2010: logit = w_0 + sum_i w_i x_i + sum_{i<j} <v_i, v_j> x_i x_j. Row i of a table is (w_i, v_i), so dim is
d + 1. `form`: 'square_of_sum' (default), the identity 1/2 (|sum v_i|^2 - sum |v_i|^2), O(F d); 'pairwise', every
product, O(F^2 d).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workloads.models import _factors, _parts
from workloads.spec import ModelSpec
from workloads.work import TableTouch, Work

if TYPE_CHECKING:
    from workloads.layers import Annotated
    from workloads.pooling import Embedding


def build(spec: ModelSpec, embedding: Embedding) -> Annotated:
    """forward(dense (B, num_dense), embedding_inputs) -> logits (B,). Raises SpecError."""
    from workloads import factorization

    _parts.factor_dim(spec)
    _factors.no_top(spec)
    return factorization.Factorized(embedding, _parts.bottom_module(spec), _factors.inner_products(spec))


def count_work(
    spec: ModelSpec,
    batch_size: int,
    phase: str,
    touches: tuple[TableTouch, ...],
    dense_bytes: int = 4,
) -> Work:
    """Stages embedding and interaction; bottom_mlp where there is one; loss and optimizer in a train step."""
    return _factors.plain_work(
        spec,
        batch_size,
        phase,
        touches,
        dense_bytes=dense_bytes,
        interaction=_factors.inner_products_work(spec, batch_size, phase, dense_bytes),
        parameters=dense_parameters(spec),
    )


def dense_parameters(spec: ModelSpec) -> int:
    """w_0 and the bottom MLP: the interaction has no parameters of its own."""
    return _factors.parameters(spec)


def activations_per_sample(spec: ModelSpec) -> int:
    """Pooled rows and what the form keeps between its sums."""
    return _factors.activations(spec, _factors.products_elements(spec))
