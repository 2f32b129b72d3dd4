"""What several variants share: the networks around an interaction, their widths, parameters and work. No torch."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from workloads.spec import ModelSpec, SpecError
from workloads.work import StageWork, TableTouch, Work, embedding_work, loss_work, make_work, mlp_work, optimizer_work

if TYPE_CHECKING:
    from torch import nn


def num_vectors(spec: ModelSpec) -> int:
    """F: the tables and, where there are dense features, the bottom MLP's output."""
    return len(spec.tables) + bool(spec.bottom_mlp)


def num_pairs(spec: ModelSpec) -> int:
    """Unordered pairs of different vectors: F(F-1)/2."""
    return num_vectors(spec) * (num_vectors(spec) - 1) // 2


def dense_width(spec: ModelSpec) -> int:
    """Width of the dense features as the interaction sees them: the bottom MLP's output, or the features themselves."""
    return spec.bottom_mlp[-1] if spec.bottom_mlp else spec.num_dense


def concat_width(spec: ModelSpec) -> int:
    """Width of all pooled rows and dense features side by side."""
    return dense_width(spec) + sum(t.dim for t in spec.tables)


def bottom_widths(spec: ModelSpec) -> tuple[int, ...]:
    """Widths of the bottom MLP, its input first; empty where there is none."""
    return (spec.num_dense, *spec.bottom_mlp) if spec.bottom_mlp else ()


def top_widths(spec: ModelSpec, width: int) -> tuple[int, ...]:
    """Widths of the top MLP, its input first. Raises SpecError where the spec has no top MLP or nothing to feed it."""
    if not spec.top_mlp:
        raise SpecError("top_mlp", [], f"at least one layer for variant {spec.variant!r}; variant 'embedding' has none")
    if width == 0:
        raise SpecError("tables", len(spec.tables), "a pair to interact: two tables, or one and a bottom MLP")
    return (width, *spec.top_mlp)


def mlp_parameters(widths: tuple[int, ...]) -> int:
    """Weights and biases of the layers widths[0] -> widths[1] -> ..."""
    return sum(m * n + n for m, n in pairwise(widths))


def bottom_module(spec: ModelSpec) -> nn.Module | None:
    """The bottom MLP; the identity where dense features go on as they are; None where there are none."""
    from torch import nn

    from workloads import layers

    if spec.bottom_mlp:
        return layers.mlp(bottom_widths(spec), last_relu=True)
    return nn.Identity() if spec.num_dense else None


def staged_work(
    spec: ModelSpec,
    batch_size: int,
    phase: str,
    touches: tuple[TableTouch, ...],
    *,
    dense_bytes: int,
    interaction: StageWork,
    top: StageWork | None,
    parameters: int,
) -> Work:
    """Work of embedding, bottom MLP, the given stages and, in a train step, loss and optimizer."""
    stages = {"embedding": embedding_work(spec.tables, batch_size, phase, touches)}
    if spec.bottom_mlp:
        stages["bottom_mlp"] = mlp_work(bottom_widths(spec), batch_size, phase, dense_bytes, input_gradient=False)
    stages["interaction"] = interaction
    if top is not None:
        stages["top_mlp"] = top
    if phase == "train_step":
        stages["loss"] = loss_work(batch_size)
        stages["optimizer"] = optimizer_work(parameters, dense_bytes)
    return make_work(spec, batch_size, touches, stages)


def ranker_activations(spec: ModelSpec, width: int, interaction: int) -> int:
    """Elements per sample: pooled rows twice (per table, concatenated), layers before and after ReLU, and the
    interaction's own elements and its output of `width`."""
    pooled = sum(t.dim for t in spec.tables)
    return 2 * pooled + 2 * sum(spec.bottom_mlp) + interaction + width + 2 * sum(spec.top_mlp)


def refuse(spec: ModelSpec, field: str, why: str) -> None:
    """Raise SpecError where `field`, which the variant has no use for, is set."""
    value = getattr(spec, field)
    if value:
        raise SpecError(field, list(value) if isinstance(value, tuple) else value, why)


def one_dim(spec: ModelSpec) -> int:
    """The dim of all vectors. Raises SpecError where tables or the bottom MLP's output differ in it."""
    dims = sorted({t.dim for t in spec.tables})
    if len(dims) != 1:
        raise SpecError("dim", dims, f"one dim for all tables in variant {spec.variant!r}")
    if spec.bottom_mlp and spec.bottom_mlp[-1] != dims[0]:
        raise SpecError("bottom_mlp", list(spec.bottom_mlp), f"widths that end in the tables' dim ({dims[0]})")
    return dims[0]


def form_of(spec: ModelSpec, forms: tuple[str, ...]) -> str:
    """The form the spec names, or the first of `forms`. Raises SpecError for one the variant does not have."""
    form = spec.form or forms[0]
    if form not in forms:
        raise SpecError("form", form, f"known for variant {spec.variant!r}: {', '.join(forms)}")
    return form


def factor_dim(spec: ModelSpec) -> int:
    """d of the factorization family: a row of the table holds the weight w_i and then the d = dim - 1 factors v_i.

    Raises SpecError where there are no factors, no pair or dense features without a bottom MLP to embed them.
    """
    dim = one_dim(spec)
    if dim < 2:
        raise SpecError("dim", dim, "at least 2: a row holds the first-order weight and then the factors")
    if spec.num_dense and not spec.bottom_mlp:
        raise SpecError("bottom_mlp", [], "widths that take dense features into the embedding space")
    if num_vectors(spec) < 2:
        raise SpecError("tables", len(spec.tables), "a pair to interact: two tables, or one and a bottom MLP")
    return dim - 1
