"""All features side by side into one MLP: interactions between features are left to a black-box network.

The article's baseline: logit = MLP(concat(x, e_1, ..., e_N)), x (B, num_dense) taken as it is (or through a bottom
MLP where the spec has one), e_i (B, D_i). Built from variant 'dlrm' with interaction = 'cat'; tables may differ in dim.
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
    spec: ModelSpec, batch_size: int, phase: str, touches: tuple[TableTouch, ...], dense_bytes: int = 4
) -> Work:
    """Stages embedding, interaction (the concatenation, no FLOPs), top_mlp; bottom_mlp where there is one."""
    return dlrm.count_work(_cat(spec), batch_size, phase, touches, dense_bytes)


def dense_parameters(spec: ModelSpec) -> int:
    """Weights and biases of the MLPs."""
    return dlrm.dense_parameters(_cat(spec))


def activations_per_sample(spec: ModelSpec) -> int:
    """As in 'dlrm'."""
    return dlrm.activations_per_sample(_cat(spec))
