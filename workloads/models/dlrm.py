"""DLRM: bottom MLP on dense features, interaction with the pooled embeddings, top MLP to one logit.

Naumov et al. 2019 (arXiv 1906.00091). interaction = 'dot' takes inner products of all pairs of the F = T + 1
vectors and puts the bottom output beside them; 'cat' only concatenates. ReLU after every layer but the logit's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workloads.models import _parts
from workloads.spec import ModelSpec
from workloads.work import StageWork, TableTouch, Work, cat_work, dot_work, mlp_work

if TYPE_CHECKING:
    from workloads.layers import Annotated
    from workloads.pooling import Embedding


def num_pairs(spec: ModelSpec) -> int:
    """Inner products that the dot interaction gives: F(F-1)/2, or F(F+1)/2 with self."""
    return _parts.num_pairs(spec) + (_parts.num_vectors(spec) if spec.interaction_self else 0)


def interaction_width(spec: ModelSpec) -> int:
    """Width of what the top MLP reads."""
    return _parts.dense_width(spec) + num_pairs(spec) if spec.interaction == "dot" else _parts.concat_width(spec)


def build(spec: ModelSpec, embedding: Embedding) -> Annotated:
    """forward(dense (B, num_dense), embedding_inputs) -> logits (B,)."""
    from workloads import layers

    dot = layers.DotInteraction(_parts.num_vectors(spec), spec.tables[0].dim, spec.interaction_self)
    return layers.Ranker(
        embedding,
        _parts.bottom_module(spec),
        dot if spec.interaction == "dot" else layers.CatInteraction(),
        layers.mlp(_parts.top_widths(spec, interaction_width(spec)), last_relu=False),
    )


def count_work(
    spec: ModelSpec,
    batch_size: int,
    phase: str,
    touches: tuple[TableTouch, ...],
    dense_bytes: int = 4,
) -> Work:
    """Stages embedding, bottom_mlp, interaction, top_mlp; loss and optimizer too in a train step."""
    widths = _parts.top_widths(spec, interaction_width(spec))
    return _parts.staged_work(
        spec,
        batch_size,
        phase,
        touches,
        dense_bytes=dense_bytes,
        interaction=_interaction_work(spec, batch_size, phase, dense_bytes),
        top=mlp_work(widths, batch_size, phase, dense_bytes, input_gradient=True),
        parameters=dense_parameters(spec),
    )


def _interaction_work(spec: ModelSpec, batch_size: int, phase: str, dense_bytes: int) -> StageWork:
    if spec.interaction == "cat":
        return cat_work(_parts.concat_width(spec), batch_size, phase, dense_bytes)
    return dot_work(
        _parts.num_vectors(spec),
        spec.tables[0].dim,
        num_pairs(spec),
        interaction_width(spec),
        batch_size=batch_size,
        phase=phase,
        dense_bytes=dense_bytes,
    )


def dense_parameters(spec: ModelSpec) -> int:
    """Weights and biases of both MLPs; the interaction has none."""
    top = _parts.top_widths(spec, interaction_width(spec))
    return _parts.mlp_parameters(_parts.bottom_widths(spec)) + _parts.mlp_parameters(top)


def activations_per_sample(spec: ModelSpec) -> int:
    """Outputs of every layer (twice: before and after ReLU), pooled rows, pair products and their concatenation."""
    width = interaction_width(spec)
    products = _parts.num_vectors(spec) ** 2 if spec.interaction == "dot" else 0
    return _parts.ranker_activations(spec, width, products + width)
