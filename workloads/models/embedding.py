"""Embedding only: the pooled rows are the output, and a train step's gradient of it is ones (the sum as loss)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workloads.spec import ModelSpec
from workloads.work import TableTouch, Work, embedding_work, make_work

if TYPE_CHECKING:
    from workloads.layers import Annotated
    from workloads.pooling import Embedding


def build(spec: ModelSpec, embedding: Embedding) -> Annotated:
    """forward(dense, embedding_inputs) -> (B, sum of dims)."""
    from workloads import layers

    return layers.Pooled(embedding)


def count_work(
    spec: ModelSpec,
    batch_size: int,
    phase: str,
    touches: tuple[TableTouch, ...],
    dense_bytes: int = 4,
) -> Work:
    """The one stage `embedding`; with a fused optimizer its update is part of it."""
    stage = embedding_work(spec.tables, batch_size, phase, touches)
    return make_work(spec, batch_size, touches, {"embedding": stage})


def dense_parameters(spec: ModelSpec) -> int:
    """None."""
    return 0


def activations_per_sample(spec: ModelSpec) -> int:
    """The pooled rows, once per table and once concatenated."""
    return 2 * sum(t.dim for t in spec.tables)
