"""Pairwise dot products beside the dense features, into a top MLP: the step from factorization machines to DLRM.

The article, section 4.2: logit = MLP(concat(x, <e_i, e_j> for i < j)), x (B, num_dense) as it is, e_i (B, D) pooled
rows. ReLU after every layer but the logit's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workloads.models import _parts
from workloads.spec import ModelSpec
from workloads.work import TableTouch, Work, dot_work, mlp_work

if TYPE_CHECKING:
    from workloads.layers import Annotated
    from workloads.pooling import Embedding


def _widths(spec: ModelSpec) -> tuple[int, ...]:
    """Widths of the top MLP, its input num_dense + N(N-1)/2 first."""
    _parts.one_dim(spec)
    _parts.refuse(spec, "bottom_mlp", "none: variant 'fm_mlp' takes dense features as they are; see 'dlrm'")
    pairs = _parts.num_pairs(spec)
    return _parts.top_widths(spec, spec.num_dense + pairs if pairs else 0)


def build(spec: ModelSpec, embedding: Embedding) -> Annotated:
    """forward(dense (B, num_dense), embedding_inputs) -> logits (B,). Raises SpecError."""
    from workloads import layers

    widths = _widths(spec)
    dots = layers.DotInteraction(len(spec.tables), spec.tables[0].dim, False)
    interaction = layers.BesideDense(dots)
    return layers.Ranker(embedding, _parts.bottom_module(spec), interaction, layers.mlp(widths, last_relu=False))


def count_work(
    spec: ModelSpec,
    batch_size: int,
    phase: str,
    touches: tuple[TableTouch, ...],
    dense_bytes: int = 4,
) -> Work:
    """Stages embedding, interaction, top_mlp; loss and optimizer too in a train step."""
    widths = _widths(spec)
    dots = dot_work(
        len(spec.tables),
        spec.tables[0].dim,
        _parts.num_pairs(spec),
        widths[0],
        batch_size=batch_size,
        phase=phase,
        dense_bytes=dense_bytes,
    )
    return _parts.staged_work(
        spec,
        batch_size,
        phase,
        touches,
        dense_bytes=dense_bytes,
        interaction=dots,
        top=mlp_work(widths, batch_size, phase, dense_bytes, input_gradient=True),
        parameters=dense_parameters(spec),
    )


def dense_parameters(spec: ModelSpec) -> int:
    """Weights and biases of the top MLP; the interaction has none."""
    return _parts.mlp_parameters(_widths(spec))


def activations_per_sample(spec: ModelSpec) -> int:
    """Pooled rows, N*N products, pairs, top MLP."""
    width = _widths(spec)[0]
    return _parts.ranker_activations(spec, width, len(spec.tables) ** 2 + width)
