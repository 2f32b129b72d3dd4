"""What the factorization family (mf, fm, poly2, deepfm) shares.

A table's row of D elements is (w_i, v_i): the first-order weight and d = D - 1 factors, gathered in one lookup. A bag
of one lookup is the feature's active value, as in the definition with x_i = 1; one of several is their sum, which
interacts with other features as its values would, while pairs within the bag, which the definition has too, are left
out. Dense features, where there are any, pass a bottom MLP whose output is one more row. No torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workloads.models import _parts
from workloads.spec import ModelSpec
from workloads.work import StageWork, TableTouch, Work, dot_work, product_work

if TYPE_CHECKING:
    from workloads.factorization import Factorization

FORMS = ("square_of_sum", "pairwise")


def inner_products(spec: ModelSpec) -> Factorization:
    """The module for sum over i < j of <v_i, v_j> in the spec's form. Raises SpecError."""
    from workloads import factorization

    if _parts.form_of(spec, FORMS) == "pairwise":
        return factorization.PairwiseProducts(_parts.num_vectors(spec), _parts.factor_dim(spec))
    return factorization.SquareOfSum()


def inner_products_work(spec: ModelSpec, batch_size: int, phase: str, dense_bytes: int) -> StageWork:
    """pairwise: as the dot interaction of F vectors of d. square_of_sum: 3*F*d + 3*d FLOPs a sample.

    Those are, per factor, F adds, F squares, F adds of squares, and a square, a difference and an add; torch's counter
    sees none of them. Backward is as many, without a weight gradient: per factor, F doublings, F products with the
    gradient, F adds of what the sum hands down, and a doubling, a product and a change of sign. Both forms read the
    rows and write one logit. The first-order sum is not counted.
    """
    f, d = _parts.num_vectors(spec), _parts.factor_dim(spec)
    if _parts.form_of(spec, FORMS) == "pairwise":
        return dot_work(f, d, _parts.num_pairs(spec), 1, batch_size=batch_size, phase=phase, dense_bytes=dense_bytes)
    return product_work(
        flops=3 * f * d + 3 * d,
        backward_flops=3 * f * d + 3 * d,
        parameters=1,
        # Rows read for w_i, for the sum and for the squares, which are written and read back; sums and the logit.
        elements=f + 4 * f * d + 4 * d + 1,
        ends=f * (d + 1) + 1,
        batch_size=batch_size,
        phase=phase,
        dense_bytes=dense_bytes,
    )


def plain_work(
    spec: ModelSpec,
    batch_size: int,
    phase: str,
    touches: tuple[TableTouch, ...],
    *,
    dense_bytes: int,
    interaction: StageWork,
    parameters: int,
) -> Work:
    """Work of a member without a top MLP. Raises SpecError where the spec has one."""
    no_top(spec)
    return _parts.staged_work(
        spec,
        batch_size,
        phase,
        touches,
        dense_bytes=dense_bytes,
        interaction=interaction,
        top=None,
        parameters=parameters,
    )


def no_top(spec: ModelSpec) -> None:
    """Raise SpecError where the spec has a top MLP."""
    _parts.refuse(spec, "top_mlp", f"none: variant {spec.variant!r} ends in its interaction; see 'deepfm', 'fm_mlp'")


def parameters(spec: ModelSpec) -> int:
    """Bottom MLP and w_0."""
    return _parts.mlp_parameters(_parts.bottom_widths(spec)) + 1


def activations(spec: ModelSpec, interaction: int) -> int:
    """Pooled rows, bottom MLP and the interaction's own elements."""
    return _parts.ranker_activations(spec, _parts.num_vectors(spec) * (_parts.factor_dim(spec) + 1), interaction)


def products_elements(spec: ModelSpec) -> int:
    """Intermediate elements of one sample in the spec's form."""
    f, d = _parts.num_vectors(spec), _parts.factor_dim(spec)
    if _parts.form_of(spec, FORMS) == "pairwise":
        return f * d + f * f + _parts.num_pairs(spec)
    return f * d + 3 * d
