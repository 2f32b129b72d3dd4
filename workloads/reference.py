"""The float64 reference that a case must agree with before it is timed. Imports torch and scipy.

Pooling is a product with a sparse matrix (B bags x u distinct rows), its gradient the product with the transpose:
other kernels than any backend's. Only touched rows are copied, one table at a time. The dense part is a float64 copy
of the model's own modules; a sum of inner products over all pairs (mf, fm, deepfm), of which there is more than one
form, is computed pair by pair as it is defined, whatever the model's form.

Errors are relative to what the rounding of a sum can be: for pooled rows and logits the sum of absolute terms, for
updated rows the row plus the absolute gradients that went into it. Gradients of the dense part are compared by their
L2 norm and with a wider tolerance: a pre-activation within rounding of zero may pass its ReLU in one precision and not
in the other, which changes one unit of one sample entirely.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from workloads.batch import Batch, TableInput
from workloads.factorization import Factorized, InnerProduct, PairwiseProducts, SquareOfSum
from workloads.layers import Annotated
from workloads.spec import TableSpec
from workloads.steps import ModelBundle, Prepared, Step, make_step, refresh, zero_grad
from workloads.work import is_training

Floats = NDArray[np.float64]

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-2}
GRADIENT_TOLERANCE = {torch.float32: 1e-2, torch.bfloat16: 0.25, torch.float16: 0.25}
ROW_TOLERANCE = 1e-5
UNIT_ROUNDOFF = 2.0**-24
"""Of float32. A row looked up n times in a batch may be off by n of these: equal terms are all rounded one way."""
ROUNDINGS = 8
"""Roundings that a sample's gradient meets on its way to a dense parameter; counts where samples cancel each other."""
OTHER_ROW_TOLERANCE = {torch.float32: 1e-2, torch.bfloat16: 5e-2, torch.float16: 5e-2}
"""For a step that rounds otherwise than eager, by whose gradient its rows are checked: a fused backward keeps more
digits, and may let a pre-activation near zero pass its ReLU. A row updated wrongly is off by its whole update."""
TF32_TOLERANCE = 1e-2
TF32_GRADIENT_TOLERANCE = 0.1
CHECK_RATE = 0.05
ADAGRAD_EPS = 1e-8
PAIR_PRODUCTS = 2**30
"""Multiplications that sums over pairs are compared by definition with, about a second: of a batch that needs more only
its first samples are, the others with the model's own form."""


class DenseGradient(NamedTuple):
    """Gradient of one dense parameter, and the L2 norm it would have if samples of unlike labels did not cancel."""

    value: Tensor
    terms_norm: float


class Checked(NamedTuple):
    """The comparison that came closest to failing: its relative error, the tolerance, and what was compared."""

    max_error: float
    tolerance: float
    what: str

    @property
    def ok(self) -> bool:
        """Whether the case agrees with the reference; a NaN does not."""
        return self.max_error <= self.tolerance

    @property
    def ratio(self) -> float:
        """Error over tolerance; infinite for NaN."""
        return math.inf if math.isnan(self.max_error) else self.max_error / self.tolerance


@dataclass(frozen=True)
class Touched:
    """One table's part of a batch: distinct rows (u,), how often each is looked up (u,), the matrix (B, u) that pools
    them, their values (u, D)."""

    rows: NDArray[np.int64]
    lookups: NDArray[np.int64]
    pool: Any
    values: NDArray[np.float32]


def touched(table: TableSpec, part: TableInput, take: Callable[[NDArray[np.int64]], NDArray[np.float32]]) -> Touched:
    """Distinct rows, a copy of their values, and the matrix: 1, 1/length for means, the weight where weighted."""
    rows, position, lookups = np.unique(part.indices, return_inverse=True, return_counts=True)
    lengths = np.diff(part.offsets)
    factors = np.ones(part.indices.size)
    if table.pooling == "mean":
        factors = np.repeat(1.0 / np.maximum(lengths, 1), lengths)
    if table.weighted and part.weights is not None:
        factors = part.weights.astype(np.float64)
    shape = (lengths.size, rows.size)
    pool = sparse.csr_array((factors, position.reshape(-1), part.offsets), shape=shape)
    return Touched(rows, lookups, pool, take(rows))


def touched_tables(bundle: ModelBundle, batch: Batch) -> Iterator[Touched]:
    """One table after the other, so that a caller that keeps none holds one at a time."""
    for t, table in enumerate(bundle.spec.tables):
        yield touched(table, batch.table(t), partial(bundle.model.embedding.take_rows, t))


def pooled_reference(parts: Iterable[Touched]) -> tuple[Floats, Floats]:
    """Pooled rows (B, sum of dims) and, in the same shape, the sums of absolute terms."""
    pooled, scale = [], []
    for part in parts:
        rows = part.values.astype(np.float64)
        pooled.append(part.pool @ rows)
        scale.append(abs(part.pool) @ np.abs(rows, out=rows))
    return np.concatenate(pooled, axis=1), np.concatenate(scale, axis=1)


def forward_reference(bundle: ModelBundle, batch: Batch) -> Tensor:
    """Output in float64: logits (B,), or pooled rows (B, sum of dims) for the embedding-only model."""
    pooled, _ = pooled_reference(touched_tables(bundle, batch))
    with torch.no_grad():
        return dense_copy(bundle.model).rank(_dense_input(bundle, batch), torch.from_numpy(pooled))


def dense_copy(model: Annotated) -> Annotated:
    """The model in float64 on the CPU, without its embedding."""
    twin = copy.deepcopy(model, {id(model.embedding): nn.Identity()})
    return twin.double().cpu()


def train_reference(bundle: ModelBundle, batch: Batch, pooled: Floats) -> tuple[Tensor, list[DenseGradient]]:
    """Gradients in float64 of one step: of the pooled rows (B, sum of dims), and of each dense parameter.

    `pooled` is what pooled_reference gives; updated_rows turns the first gradient, taken back through the pooling
    matrix, into rows.
    """
    twin = dense_copy(bundle.model)
    leaf = torch.from_numpy(pooled).requires_grad_()
    labels = torch.from_numpy(batch.labels).double()
    of_rows, *of_dense = _gradients(bundle, twin, _dense_input(bundle, batch), leaf, labels)
    if not of_dense:
        return of_rows, []
    # The same with the sign of every sample's own gradient taken away: how large the terms were that add up.
    sizes = _gradients(bundle, twin, _dense_input(bundle, batch), leaf, labels, one_sign=True)[1:]
    return of_rows, [DenseGradient(g, float(s.norm())) for g, s in zip(of_dense, sizes, strict=True)]


def updated_rows(rows: NDArray[np.float32], gradient: Floats, learning_rate: float, optimizer: str) -> Floats:
    """Rows (u, D) after one step of SGD, row-wise Adagrad (one mean square per row) or Adam, from a zero state.

    Adam's first step, bias-corrected, is g / (|g| + eps).

    Computed in the memory of `gradient`, which is large.
    """
    if optimizer == "rowwise_adagrad":
        gradient /= _row_rms(gradient)[:, None] + ADAGRAD_EPS
    elif optimizer == "adam":
        gradient /= np.abs(gradient) + ADAGRAD_EPS
    gradient *= -learning_rate
    gradient += rows
    return gradient


def check(bundle: ModelBundle, batch: Batch, step: Step | None = None, *, same_kernels: bool = True) -> Checked:
    """Run one real step of the bundle's phase and compare it; the worst comparison comes back.

    `step` is what will be timed (default: make_step); `same_kernels` is whether it rounds as eager does. After a train
    step's check the tables, dense parameters, learning rates and optimizer state are put back.
    """
    step = step or make_step(bundle)
    inputs = bundle.prepare(batch)
    if is_training(bundle.phase):
        parts = list(touched_tables(bundle, batch))
        pooled, scale = pooled_reference(parts)
        found = list(_check_forward(bundle, batch, inputs, pooled, scale, make_step(bundle, "forward")))
        row_tolerance = ROW_TOLERANCE if same_kernels else OTHER_ROW_TOLERANCE[bundle.dtype]
        found += _check_train(bundle, batch, inputs, pooled, parts, step, row_tolerance)
    else:
        pooled, scale = pooled_reference(touched_tables(bundle, batch))
        found = list(_check_forward(bundle, batch, inputs, pooled, scale, step))
    return max(found, key=lambda c: c.ratio)


def _check_forward(
    bundle: ModelBundle, batch: Batch, inputs: Prepared, pooled: Floats, scale: Floats, step: Step
) -> Iterator[Checked]:
    tolerance = TF32_TOLERANCE if _rounds_to_tf32(bundle) else TOLERANCE[bundle.dtype]
    with torch.no_grad():
        actual = _numpy(bundle.model.embedding(inputs.lookups))
    output = step(inputs)
    yield Checked(_relative(actual - pooled, scale), TOLERANCE[bundle.dtype], "pooled rows")
    if bundle.spec.variant == "embedding":
        yield Checked(_relative(_numpy(output) - pooled, scale), tolerance, "output")
        return
    logits, logit_scale = _logits(dense_copy(bundle.model), _dense_input(bundle, batch), torch.from_numpy(pooled))
    yield Checked(_relative(_numpy(output) - logits, logit_scale), tolerance, "logits")


def _rounds_to_tf32(bundle: ModelBundle) -> bool:
    """Whether matrix products of float32 may round their inputs: to 10 bits of fraction (TF32), on a CPU at 'medium'
    to bfloat16, where the processor has such products."""
    asked = torch.get_float32_matmul_precision()
    rounds = asked != "highest" if bundle.device.type == "cuda" else asked == "medium"
    return rounds and bundle.dtype == torch.float32


def _gradient_tolerance(bundle: ModelBundle) -> float:
    return TF32_GRADIENT_TOLERANCE if _rounds_to_tf32(bundle) else GRADIENT_TOLERANCE[bundle.dtype]


def _logits(twin: Annotated, dense: Tensor, pooled: Tensor) -> tuple[Floats, Floats]:
    """Logits (B,) and the sums of absolute terms that give them: in the model's own sum and its last linear layer."""
    with torch.no_grad():
        own = twin.logit_terms(dense, pooled)
        scales = [] if own is None else [own]

        def note(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
            weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
            scales.append((args[0].abs() @ weight.abs().T + bias.abs()).squeeze(1))

        handles = [layer.register_forward_pre_hook(note) for layer in _logit_layers(twin)]
        logits = twin.rank(dense, pooled)
        for handle in handles:
            handle.remove()
        if isinstance(twin, Factorized) and isinstance(twin.interaction, (InnerProduct, PairwiseProducts, SquareOfSum)):
            factors = twin.rows(dense, pooled)[:, :, 1:]
            few = factors[: _samples_by_definition(factors.shape[1], factors.shape[2])]
            logits[: len(few)] += sum_over_pairs(few) - twin.interaction.second_order(few)
    return logits.numpy(), torch.stack(scales).sum(0).numpy()


def sum_over_pairs(factors: Tensor) -> Tensor:
    """The sum (B,) over all i < j of <v_i, v_j> from v (B, F, d): every product of every pair."""
    total = factors.new_zeros(factors.shape[0])
    for i in range(factors.shape[1] - 1):
        # One vector with all that follow it: the pairs (i, j) of this i.
        total += torch.bmm(factors[:, i + 1 :], factors[:, i, :, None]).sum((1, 2))
    return total


def _samples_by_definition(num_vectors: int, dim: int) -> int:
    """How many samples PAIR_PRODUCTS suffices for, one at the least."""
    pairs = num_vectors * (num_vectors - 1) // 2
    return max(1, PAIR_PRODUCTS // max(1, pairs * dim))


def _logit_layers(twin: Annotated) -> list[nn.Module]:
    """The last linear layer of the part `top`, where the model has one."""
    top = getattr(twin, "top", None)
    layers = [m for m in top.modules() if isinstance(m, nn.Linear)] if isinstance(top, nn.Module) else []
    return [*layers[-1:]]


def _check_train(
    bundle: ModelBundle,
    batch: Batch,
    inputs: Prepared,
    pooled: Floats,
    parts: list[Touched],
    step: Step,
    row_tolerance: float,
) -> list[Checked]:
    expected_pooled, expected_dense = train_reference(bundle, batch, pooled)
    upstream = _actual_upstream(bundle, inputs)
    wide = _gradient_tolerance(bundle)
    found = [Checked(_l2(upstream - expected_pooled.numpy(), expected_pooled.numpy()), wide, "gradient of pooled rows")]
    dense_before = [p.detach().clone() for p in bundle.model.dense_parameters()]
    table_rate = _table_rate(bundle, upstream)
    dense_rate = 1.0 / max([float(g.value.abs().max()) for g in expected_dense] + [1e-30])
    with _rates(bundle, table_rate, dense_rate, step):
        step(inputs)
    found += _check_tables(bundle, parts, upstream, table_rate, row_tolerance)
    found += _check_dense(bundle, dense_before, expected_dense, dense_rate)
    _restore(bundle, parts, dense_before)
    return found


def _table_rate(bundle: ModelBundle, upstream: Floats) -> float:
    """A learning rate at which rows move by about their own size: at usual ones float32 would round it all away."""
    if bundle.optimizer in ("rowwise_adagrad", "adam"):
        return CHECK_RATE
    return CHECK_RATE / max(float(np.abs(upstream).max()), 1e-30)


def _check_tables(
    bundle: ModelBundle, parts: list[Touched], upstream: Floats, rate: float, tolerance: float
) -> Iterator[Checked]:
    """Rows after the step against the update by the gradient `upstream` (B, sum of dims) that reached the tables."""
    ends = np.cumsum([t.dim for t in bundle.spec.tables])
    weights = bundle.model.embedding.table_weights()
    for t, (table, part) in enumerate(zip(bundle.spec.tables, parts, strict=True)):
        arriving = upstream[:, ends[t] - table.dim : ends[t]]
        gradient = part.pool.T @ arriving
        absolute = (abs(part.pool).T @ np.abs(arriving).max(axis=1))[:, None]
        if bundle.optimizer == "rowwise_adagrad":
            absolute = absolute / (_row_rms(gradient) + ADAGRAD_EPS)[:, None]
        elif bundle.optimizer == "adam":
            absolute = absolute / (np.abs(gradient) + ADAGRAD_EPS)
        absolute *= np.maximum(1, part.lookups * UNIT_ROUNDOFF / tolerance)[:, None]
        error = updated_rows(part.values, gradient, rate, bundle.optimizer or "sgd")
        error -= _take(weights[t], part.rows)
        largest = np.maximum(part.values.max(axis=1), -part.values.min(axis=1))
        yield Checked(
            _relative(error, largest[:, None] + rate * absolute),
            tolerance,
            f"updated rows of table {table.name!r}",
        )


def _check_dense(
    bundle: ModelBundle, before: list[Tensor], gradients: list[DenseGradient], rate: float
) -> Iterator[Checked]:
    names = [name for name, _ in bundle.model.named_parameters() if not name.startswith("embedding.")]
    wide, eps = _gradient_tolerance(bundle), torch.finfo(bundle.dtype).eps
    moved = zip(names, bundle.model.dense_parameters(), before, gradients, strict=True)
    for name, parameter, old, gradient in moved:
        change = rate * gradient.value.numpy()
        error = _numpy(parameter) - (_numpy(old) - change)
        rounding = eps / wide * (float(np.linalg.norm(_numpy(old))) + ROUNDINGS * rate * gradient.terms_norm)
        yield Checked(_l2(error, change, rounding), wide, f"updated parameter {name!r}")


def _restore(bundle: ModelBundle, parts: list[Touched], dense_before: list[Tensor]) -> None:
    embedding = bundle.model.embedding
    with torch.no_grad():
        for weight, part in zip(embedding.table_weights(), parts, strict=True):
            rows = torch.from_numpy(part.rows).to(weight.device)
            weight.index_copy_(0, rows, torch.from_numpy(part.values).to(weight.device))
        for parameter, old in zip(bundle.model.dense_parameters(), dense_before, strict=True):
            parameter.copy_(old)
    embedding.reset_optimizer_state()
    zero_grad(bundle)


@contextmanager
def _rates(bundle: ModelBundle, table_rate: float, dense_rate: float, step: Step) -> Iterator[None]:
    """Learning rates for the check, the bundle's own afterwards; the step is told of both."""
    _set_rates(bundle, table_rate, dense_rate)
    refresh(step)
    try:
        yield
    finally:
        _set_rates(bundle, bundle.learning_rate, bundle.learning_rate)
        refresh(step)


def _set_rates(bundle: ModelBundle, table_rate: float, dense_rate: float) -> None:
    bundle.model.embedding.set_learning_rate(table_rate)
    dense = {id(p) for p in bundle.model.dense_parameters()}
    for group in (g for optimizer in bundle.optimizers.values() for g in optimizer.param_groups):
        group["lr"] = dense_rate if id(group["params"][0]) in dense else table_rate


def _actual_upstream(bundle: ModelBundle, inputs: Prepared) -> Floats:
    """The gradient that reaches the embedding in the case's own precision (B, sum of dims)."""
    with torch.no_grad():
        pooled = bundle.model.embedding(inputs.lookups)
    gradient = _gradients(bundle, bundle.model, inputs.dense, pooled.requires_grad_(), inputs.labels)[0]
    return _numpy(gradient)


def _gradients(
    bundle: ModelBundle, model: Annotated, dense: Tensor, pooled: Tensor, labels: Tensor, *, one_sign: bool = False
) -> list[Tensor]:
    """Gradients of the loss by `pooled`, then by each dense parameter; ones where the model is the embedding alone.

    one_sign: as if the loss rose with every sample's logit.
    """
    if bundle.spec.variant == "embedding":
        return [torch.ones_like(pooled)]
    logits = model.rank(dense, pooled)
    loss = functional.binary_cross_entropy_with_logits(logits.to(labels.dtype), labels)
    (by_logit,) = torch.autograd.grad(loss, logits, retain_graph=True)
    by_logit = by_logit.abs() if one_sign else by_logit
    return list(torch.autograd.grad(logits, [pooled, *model.dense_parameters()], by_logit))


def _dense_input(bundle: ModelBundle, batch: Batch) -> Tensor:
    """Dense features as the case sees them (rounded to its dtype), in float64."""
    return torch.from_numpy(batch.dense).to(bundle.dtype).double()


def _take(weight: Tensor, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    taken: NDArray[np.float32] = weight.index_select(0, torch.from_numpy(rows).to(weight.device)).cpu().numpy()
    return taken


def _numpy(tensor: Tensor) -> Floats:
    values: Floats = tensor.detach().double().cpu().numpy()
    return values


def _row_rms(gradient: Floats) -> Floats:
    return np.asarray(np.sqrt(np.mean(gradient * gradient, axis=1)))


def _relative(error: Floats, scale: Floats) -> float:
    """Largest error over its scale, computed in the memory of `error`; NaN stays NaN."""
    np.abs(error, out=error)
    error /= scale + 1e-30
    return float(np.max(error, initial=0.0))


def _l2(error: Floats, expected: Floats, extra: float = 0.0) -> float:
    return float(np.linalg.norm(error) / (np.linalg.norm(expected) + extra + 1e-30))
