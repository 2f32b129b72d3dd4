"""DCN, the Deep & Cross Network: cross layers and a deep network side by side, joined by one linear layer.

Wang et al. 2017 (arXiv 1708.05123): x_0 = concat(dense features or bottom output, e_1, ..., e_N) in R^n,
x_{l+1} = x_0 (x_l . w_l) + b_l + x_l, w_l and b_l in R^n. `top_mlp` without its last 1 is the deep network on x_0; the
logit is one linear layer on concat(x_L, deep). Tables may differ in dim. Only matrix products are counted as FLOPs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workloads.models import _parts
from workloads.spec import ModelSpec
from workloads.work import StageWork, TableTouch, Work, mlp_work, product_work, sum_stages

if TYPE_CHECKING:
    from workloads.layers import Annotated
    from workloads.pooling import Embedding


def _deep_widths(spec: ModelSpec) -> tuple[int, ...]:
    """Widths of the deep network, its input n first."""
    _parts.refuse(spec, "cross_rank", "0: the cross layers of variant 'dcn' have rank one; see 'dcnv2'")
    return _parts.top_widths(spec, _parts.concat_width(spec))[:-1]


def _joint_width(spec: ModelSpec) -> int:
    """Width that the last layer reads: x_L and, where there is one, the deep network's output."""
    deep = _deep_widths(spec)
    return deep[0] + (deep[-1] if len(deep) > 1 else 0)


def _cross_work(spec: ModelSpec, batch_size: int, phase: str, dense_bytes: int) -> StageWork:
    """Per layer and sample: x_l and w_l read for the product, then x_0, x_l, b_l in and x_{l+1} out."""
    n = _parts.concat_width(spec)
    return product_work(
        flops=2 * n * spec.cross_layers,
        parameters=2 * n * spec.cross_layers,
        elements=2 * n + spec.cross_layers * 4 * n,
        ends=2 * n,
        batch_size=batch_size,
        phase=phase,
        dense_bytes=dense_bytes,
    )


def build(spec: ModelSpec, embedding: Embedding) -> Annotated:
    """forward(dense (B, num_dense), embedding_inputs) -> logits (B,). Raises SpecError."""
    from torch import nn

    from workloads import cross, layers

    width, deep = _parts.concat_width(spec), _deep_widths(spec)
    return layers.Ranker(
        embedding,
        _parts.bottom_module(spec),
        cross.CrossNetwork([cross.RankOne(width) for _ in range(spec.cross_layers)], keep_input=len(deep) > 1),
        cross.DeepBesideCross(layers.mlp(deep, last_relu=True), nn.Linear(_joint_width(spec), 1)),
    )


def count_work(
    spec: ModelSpec,
    batch_size: int,
    phase: str,
    touches: tuple[TableTouch, ...],
    dense_bytes: int = 4,
) -> Work:
    """Stages embedding, bottom_mlp, interaction (the cross layers), top_mlp (deep network and last layer)."""
    mlps = [(_joint_width(spec), 1)] + ([_deep_widths(spec)] if len(_deep_widths(spec)) > 1 else [])
    return _parts.staged_work(
        spec,
        batch_size,
        phase,
        touches,
        dense_bytes=dense_bytes,
        interaction=_cross_work(spec, batch_size, phase, dense_bytes),
        top=sum_stages([mlp_work(w, batch_size, phase, dense_bytes, input_gradient=True) for w in mlps]),
        parameters=dense_parameters(spec),
    )


def dense_parameters(spec: ModelSpec) -> int:
    """Both MLPs, w_l and b_l of the cross layers, and the last layer."""
    cross = 2 * _parts.concat_width(spec) * spec.cross_layers
    mlps = _parts.mlp_parameters(_parts.bottom_widths(spec)) + _parts.mlp_parameters(_deep_widths(spec))
    return mlps + cross + _joint_width(spec) + 1


def activations_per_sample(spec: ModelSpec) -> int:
    """Layers of both MLPs; x_0, and per cross layer the scalar times x_0 and the sums; both ends joined."""
    n = _parts.concat_width(spec)
    return _parts.ranker_activations(spec, n, spec.cross_layers * 3 * n + 2 * _joint_width(spec))
