"""DLRM: bottom MLP on dense features, interaction with the pooled embeddings, top MLP to one logit.

Naumov et al. 2019 (arXiv 1906.00091). interaction = 'dot' takes inner products of all pairs of the F = T + 1
vectors and puts the bottom output beside them; 'cat' only concatenates. ReLU after every layer but the logit's.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from workloads.spec import ModelSpec, SpecError
from workloads.work import (
    StageWork,
    TableTouch,
    Work,
    cat_work,
    dot_work,
    embedding_work,
    loss_work,
    make_work,
    mlp_work,
    optimizer_work,
)

if TYPE_CHECKING:
    from workloads.layers import Annotated
    from workloads.pooling import Embedding


def num_vectors(spec: ModelSpec) -> int:
    """F: the tables and, where there are dense features, the bottom MLP's output."""
    return len(spec.tables) + bool(spec.bottom_mlp)


def num_pairs(spec: ModelSpec) -> int:
    """Inner products that the dot interaction gives: F(F-1)/2, or F(F+1)/2 with self."""
    f = num_vectors(spec)
    return f * (f + 1) // 2 if spec.interaction_self else f * (f - 1) // 2


def interaction_width(spec: ModelSpec) -> int:
    """Width of what the top MLP reads."""
    bottom = spec.bottom_mlp[-1] if spec.bottom_mlp else 0
    return bottom + (num_pairs(spec) if spec.interaction == "dot" else sum(t.dim for t in spec.tables))


def bottom_widths(spec: ModelSpec) -> tuple[int, ...]:
    """Widths of the bottom MLP, its input first; empty where there is none."""
    return (spec.num_dense, *spec.bottom_mlp) if spec.bottom_mlp else ()


def top_widths(spec: ModelSpec) -> tuple[int, ...]:
    """Widths of the top MLP, its input first. Raises SpecError where the spec has no top MLP or no pair."""
    if not spec.top_mlp:
        raise SpecError("top_mlp", [], "at least one layer for variant 'dlrm'; variant 'embedding' has none")
    if interaction_width(spec) == 0:
        raise SpecError("tables", len(spec.tables), "a pair to interact: two tables, or one and a bottom MLP")
    return (interaction_width(spec), *spec.top_mlp)


def build(spec: ModelSpec, embedding: Embedding) -> Annotated:
    """forward(dense (B, num_dense), embedding_inputs) -> logits (B,)."""
    from workloads import layers

    widths = bottom_widths(spec)
    dot = layers.DotInteraction(num_vectors(spec), spec.tables[0].dim, spec.interaction_self)
    return layers.Ranker(
        embedding,
        layers.mlp(widths, last_relu=True) if widths else None,
        dot if spec.interaction == "dot" else layers.CatInteraction(),
        layers.mlp(top_widths(spec), last_relu=False),
    )


def count_work(
    spec: ModelSpec, batch_size: int, phase: str, touches: tuple[TableTouch, ...], dense_bytes: int = 4
) -> Work:
    """Stages embedding, bottom_mlp, interaction, top_mlp; loss and optimizer too in a train step."""
    widths = bottom_widths(spec)
    stages = {"embedding": embedding_work(spec.tables, batch_size, phase, touches)}
    if widths:
        stages["bottom_mlp"] = mlp_work(widths, batch_size, phase, dense_bytes, input_gradient=False)
    stages["interaction"] = _interaction_work(spec, batch_size, phase, dense_bytes)
    stages["top_mlp"] = mlp_work(top_widths(spec), batch_size, phase, dense_bytes, input_gradient=True)
    if phase == "train_step":
        stages["loss"] = loss_work(batch_size)
        stages["optimizer"] = optimizer_work(dense_parameters(spec), dense_bytes)
    return make_work(spec, batch_size, touches, stages)


def _interaction_work(spec: ModelSpec, batch_size: int, phase: str, dense_bytes: int) -> StageWork:
    width_in = sum(t.dim for t in spec.tables) + (spec.bottom_mlp[-1] if spec.bottom_mlp else 0)
    if spec.interaction == "cat":
        return cat_work(width_in, batch_size, phase, dense_bytes)
    return dot_work(
        num_vectors(spec),
        spec.tables[0].dim,
        num_pairs(spec),
        interaction_width(spec),
        batch_size=batch_size,
        phase=phase,
        dense_bytes=dense_bytes,
    )


def dense_parameters(spec: ModelSpec) -> int:
    """Weights and biases of both MLPs; the interaction has none."""
    layers = [*pairwise(bottom_widths(spec)), *pairwise(top_widths(spec))]
    return sum(m * n + n for m, n in layers)


def activations_per_sample(spec: ModelSpec) -> int:
    """Outputs of every layer (twice: before and after ReLU), pooled rows, pair products and their concatenation."""
    pooled = sum(t.dim for t in spec.tables)
    products = num_vectors(spec) ** 2 if spec.interaction == "dot" else 0
    return 2 * pooled + 2 * sum(spec.bottom_mlp) + products + 2 * interaction_width(spec) + 2 * sum(spec.top_mlp)
