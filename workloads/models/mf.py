"""Matrix factorization: a score from two embeddings, one of the user and one of the item.

Koren et al. 2009: logit = mu + b_u + b_i + <p_u, q_i>. Exactly two tables, whose rows are (bias, factors), so dim is
d + 1. One inner product a sample, computed elementwise: 2*d FLOPs, none of which torch's counter sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workloads.models import _factors, _parts
from workloads.spec import ModelSpec, SpecError
from workloads.work import TableTouch, Work, product_work

if TYPE_CHECKING:
    from workloads.layers import Annotated
    from workloads.pooling import Embedding


def _factor_dim(spec: ModelSpec) -> int:
    """d. Raises SpecError unless the spec is two tables and nothing else."""
    if len(spec.tables) != 2:
        raise SpecError("tables", len(spec.tables), "exactly 2 for variant 'mf' (user and item); see 'fm' for more")
    _parts.refuse(spec, "num_dense", "0 for variant 'mf', which has no dense features; see 'fm'")
    _factors.no_top(spec)
    return _parts.factor_dim(spec)


def build(spec: ModelSpec, embedding: Embedding) -> Annotated:
    """forward(dense (B, 0), embedding_inputs) -> logits (B,). Raises SpecError."""
    from workloads import factorization

    _factor_dim(spec)
    return factorization.Factorized(embedding, None, factorization.InnerProduct())


def count_work(
    spec: ModelSpec,
    batch_size: int,
    phase: str,
    touches: tuple[TableTouch, ...],
    dense_bytes: int = 4,
) -> Work:
    """Stages embedding and interaction; loss and optimizer in a train step."""
    d = _factor_dim(spec)
    dot = product_work(
        flops=2 * d,
        # Each vector's gradient is a multiple of the other vector.
        backward_flops=2 * d,
        parameters=1,
        # Factors read, product written and read back, biases read, logit written.
        elements=4 * d + 3,
        ends=2 * (d + 1) + 1,
        batch_size=batch_size,
        phase=phase,
        dense_bytes=dense_bytes,
    )
    return _factors.plain_work(
        spec,
        batch_size,
        phase,
        touches,
        dense_bytes=dense_bytes,
        interaction=dot,
        parameters=dense_parameters(spec),
    )


def dense_parameters(spec: ModelSpec) -> int:
    """mu; the biases are in the tables."""
    return _factors.parameters(spec)


def activations_per_sample(spec: ModelSpec) -> int:
    """Both rows and their product."""
    return _factors.activations(spec, _factor_dim(spec))
