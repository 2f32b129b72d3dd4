"""DCN-V2, stacked: cross layers over all features side by side, then a top MLP.

Wang et al. 2021 (arXiv 2008.13535): x_0 = concat(bottom output or dense features, e_1, ..., e_N) in R^n,
x_{l+1} = x_0 * (W_l x_l + b_l) + x_l with W_l (n, n), or of low rank r: W_l = U_l V_l, U_l (n, r), V_l (r, n), as in
MLPerf's DLRM v2. Tables may differ in dim. Only matrix products are counted as FLOPs, as torch's counter does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workloads.models import _parts
from workloads.spec import ModelSpec
from workloads.work import StageWork, TableTouch, Work, mlp_work, product_work

if TYPE_CHECKING:
    from workloads.layers import Annotated
    from workloads.pooling import Embedding


def cross_parameters(spec: ModelSpec) -> int:
    """All layers: n*n + n each, or 2*n*r + n with low rank."""
    n = _parts.concat_width(spec)
    return spec.cross_layers * (2 * n * spec.cross_rank + n if spec.cross_rank else n * n + n)


def _cross_work(spec: ModelSpec, batch_size: int, phase: str, dense_bytes: int) -> StageWork:
    """Per layer and sample: the product reads and writes its vectors, then x_0, product, x_l in and x_{l+1} out."""
    n, r = _parts.concat_width(spec), spec.cross_rank
    return product_work(
        flops=2 * (cross_parameters(spec) - spec.cross_layers * n),
        parameters=cross_parameters(spec),
        elements=2 * n + spec.cross_layers * (2 * n + 2 * r + 4 * n),
        ends=2 * n,
        batch_size=batch_size,
        phase=phase,
        dense_bytes=dense_bytes,
    )


def build(spec: ModelSpec, embedding: Embedding) -> Annotated:
    """forward(dense (B, num_dense), embedding_inputs) -> logits (B,). Raises SpecError."""
    from workloads import cross, layers

    width = _parts.concat_width(spec)
    return layers.Ranker(
        embedding,
        _parts.bottom_module(spec),
        cross.CrossNetwork([cross.cross_product(width, spec.cross_rank) for _ in range(spec.cross_layers)]),
        layers.mlp(_parts.top_widths(spec, width), last_relu=False),
    )


def count_work(
    spec: ModelSpec,
    batch_size: int,
    phase: str,
    touches: tuple[TableTouch, ...],
    dense_bytes: int = 4,
) -> Work:
    """Stages embedding, bottom_mlp, interaction (the cross layers), top_mlp; loss and optimizer in a train step."""
    widths = _parts.top_widths(spec, _parts.concat_width(spec))
    return _parts.staged_work(
        spec,
        batch_size,
        phase,
        touches,
        dense_bytes=dense_bytes,
        interaction=_cross_work(spec, batch_size, phase, dense_bytes),
        top=mlp_work(widths, batch_size, phase, dense_bytes, input_gradient=True),
        parameters=dense_parameters(spec),
    )


def dense_parameters(spec: ModelSpec) -> int:
    """Weights and biases of both MLPs and of the cross layers."""
    top = _parts.top_widths(spec, _parts.concat_width(spec))
    return _parts.mlp_parameters(_parts.bottom_widths(spec)) + cross_parameters(spec) + _parts.mlp_parameters(top)


def activations_per_sample(spec: ModelSpec) -> int:
    """Layers of both MLPs; x_0, and per cross layer the low-rank vector, the product, its multiple and the sum."""
    n = _parts.concat_width(spec)
    return _parts.ranker_activations(spec, n, spec.cross_layers * (3 * n + spec.cross_rank))
