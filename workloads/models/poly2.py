"""Degree-2 polynomial: an independent parameter, or block of parameters, for every pair of features.

Chang et al. 2010, in two forms. 'block' (default): logit = w_0 + sum w_i + sum_{i<j} v_i^T W_ij v_j with a d x d block
W_ij per pair of fields over embedded values; rows are (w_i, v_i), so dim is d + 1, and parameters grow as
F(F-1)/2 * d^2. 'hashed': logit = w_0 + sum w_i + sum_{i<j} w_h(i,j,x_i,x_j), one weight per pair of *values*; all
tables have dim 1, the last one holds the hashed pair weights and is looked up N(N-1)/2 times a sample (see
workloads/pairs.py, which derives its indices from those of the N others).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workloads import pairs
from workloads.models import _factors, _parts
from workloads.spec import ModelSpec
from workloads.work import StageWork, TableTouch, Work, product_work

if TYPE_CHECKING:
    from workloads.layers import Annotated
    from workloads.pooling import Embedding

FORMS = ("block", "hashed")


def _is_hashed(spec: ModelSpec) -> bool:
    """Whether the form is 'hashed'. Raises SpecError where the spec does not fit its form."""
    _factors.no_top(spec)
    hashed = _parts.form_of(spec, FORMS) == "hashed"
    if hashed:
        pairs.check(spec)
    else:
        _parts.factor_dim(spec)
    return hashed


def build(spec: ModelSpec, embedding: Embedding) -> Annotated:
    """forward(dense (B, num_dense), embedding_inputs) -> logits (B,). Raises SpecError."""
    from workloads import factorization

    if _is_hashed(spec):
        return factorization.Factorized(embedding, None, factorization.FirstOrder())
    blocks = factorization.PairBlocks(_parts.num_vectors(spec), _parts.factor_dim(spec))
    return factorization.Factorized(embedding, _parts.bottom_module(spec), blocks)


def _interaction_work(spec: ModelSpec, batch_size: int, phase: str, dense_bytes: int) -> StageWork:
    """block: v_i^T W_ij as a product, 2*d*d FLOPs a pair (its dot with v_j, 2*d, is not counted: not a matrix product
    to torch). hashed: the sum of all pooled weights, one add each, whose gradient is handed to each as it is; pooling
    them is in the embedding stage."""
    n = len(spec.tables)
    backward_flops: int | None = None
    if _is_hashed(spec):
        flops, parameters, elements, ends, backward_flops = n, 1, n + 1, n + 1, 0
    else:
        d, p, f = _parts.factor_dim(spec), _parts.num_pairs(spec), _parts.num_vectors(spec)
        flops, parameters, ends = 2 * p * d * d, p * d * d + 1, f * (d + 1) + 1
        # Both factors of a pair gathered (read, written), product read and written, times v_j, summed.
        elements = p * (4 * d + 2 * d + 4 * d) + f + 1
    return product_work(
        flops=flops,
        backward_flops=backward_flops,
        parameters=parameters,
        elements=elements,
        ends=ends,
        batch_size=batch_size,
        phase=phase,
        dense_bytes=dense_bytes,
    )


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
        interaction=_interaction_work(spec, batch_size, phase, dense_bytes),
        parameters=dense_parameters(spec),
    )


def dense_parameters(spec: ModelSpec) -> int:
    """w_0, the bottom MLP and, in blocks, d*d a pair."""
    if _is_hashed(spec):
        return 1
    return _factors.parameters(spec) + _parts.num_pairs(spec) * _parts.factor_dim(spec) ** 2


def activations_per_sample(spec: ModelSpec) -> int:
    """Rows and, in blocks, both factors, product and multiple of every pair."""
    if _is_hashed(spec):
        return 2 * len(spec.tables)
    return _factors.activations(spec, 4 * _parts.num_pairs(spec) * _parts.factor_dim(spec))
