"""DeepFM: a factorization machine and an MLP on the same embeddings, their outputs added.

Guo et al. 2017 (arXiv 1703.04247): logit = FM(rows) + MLP(concat(v_1, ..., v_F)). Rows are (w_i, v_i), so dim is d + 1;
`form` as in 'fm'. ReLU after every layer of the MLP but the last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workloads.models import _factors, _parts
from workloads.spec import ModelSpec
from workloads.work import TableTouch, Work, mlp_work

if TYPE_CHECKING:
    from workloads.layers import Annotated
    from workloads.pooling import Embedding


def _widths(spec: ModelSpec) -> tuple[int, ...]:
    """Widths of the MLP, its input F*d first."""
    return _parts.top_widths(spec, _parts.num_vectors(spec) * _parts.factor_dim(spec))


def build(spec: ModelSpec, embedding: Embedding) -> Annotated:
    """forward(dense (B, num_dense), embedding_inputs) -> logits (B,). Raises SpecError."""
    from workloads import factorization, layers

    deep = layers.mlp(_widths(spec), last_relu=False)
    return factorization.Factorized(embedding, _parts.bottom_module(spec), _factors.inner_products(spec), deep)


def count_work(
    spec: ModelSpec,
    batch_size: int,
    phase: str,
    touches: tuple[TableTouch, ...],
    dense_bytes: int = 4,
) -> Work:
    """Stages embedding, interaction (the factorization machine), top_mlp; bottom_mlp where there is one."""
    return _parts.staged_work(
        spec,
        batch_size,
        phase,
        touches,
        dense_bytes=dense_bytes,
        interaction=_factors.inner_products_work(spec, batch_size, phase, dense_bytes),
        top=mlp_work(_widths(spec), batch_size, phase, dense_bytes, input_gradient=True),
        parameters=dense_parameters(spec),
    )


def dense_parameters(spec: ModelSpec) -> int:
    """w_0 and the MLPs."""
    return _factors.parameters(spec) + _parts.mlp_parameters(_widths(spec))


def activations_per_sample(spec: ModelSpec) -> int:
    """Pooled rows, what the form keeps, and the MLP."""
    return _factors.activations(spec, _factors.products_elements(spec) + _widths(spec)[0])
