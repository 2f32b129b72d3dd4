"""DLRM without its interaction, as the control: bottom output and pooled rows are only concatenated.

Naumov et al. 2019 (arXiv 1906.00091), arch_interaction_op = 'cat'. The same as variant 'dlrm' with
interaction = 'cat', which it reuses; tables may differ in dim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from workloads.models import dlrm
from workloads.spec import ModelSpec
from workloads.work import TableTouch, Work

if TYPE_CHECKING:
    from workloads.layers import Annotated
    from workloads.pooling import Embedding


def _cat(spec: ModelSpec) -> ModelSpec:
    return msgspec.structs.replace(spec, interaction="cat")


def build(spec: ModelSpec, embedding: Embedding) -> Annotated:
    """forward(dense (B, num_dense), embedding_inputs) -> logits (B,)."""
    return dlrm.build(_cat(spec), embedding)


def count_work(
    spec: ModelSpec,
    batch_size: int,
    phase: str,
    touches: tuple[TableTouch, ...],
    dense_bytes: int = 4,
) -> Work:
    """Stages as in 'dlrm'; the interaction has no FLOPs."""
    return dlrm.count_work(_cat(spec), batch_size, phase, touches, dense_bytes)


def dense_parameters(spec: ModelSpec) -> int:
    """Weights and biases of both MLPs."""
    return dlrm.dense_parameters(_cat(spec))


def activations_per_sample(spec: ModelSpec) -> int:
    """As in 'dlrm'."""
    return dlrm.activations_per_sample(_cat(spec))
