"""Work: FLOPs and bytes of one step, per stage, by the formulas of docs/method/work.md (which says why).

Bytes of one table, one forward pass, with n lookups, u distinct rows, w row bytes, B bags, o output row bytes,
i index bytes and a cache line of 64 bytes:

    logical     = n*w
    algorithmic = n*w + B*o + n*i + (B+1)*i
    compulsory  = u*ceil(w/64)*64 + B*o + n*i + (B+1)*i

Compulsory bytes are the least that each pass of a stage, forward and backward, moves with a perfect cache inside the
pass and none from pass to pass; `bytes_kept` is what of them a cache that lasts through the step need not move.

FLOPs count a multiply and an add as two. A dot interaction of F vectors of width D is computed as F*F*D
multiply-adds of which F(F-1)/2*D are useful; `flops` is what is computed, `flops_useful` what is needed.
A train step adds the backward pass to every stage, and the stages `loss` and `optimizer` (dense parameters only:
the tables' update, with the state of its optimizer, is counted in `embedding`, whether it is fused or not).

Shapes are per step: `batch_size` is B, `dense_bytes` the bytes of one element outside the tables.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import msgspec

from workloads.spec import ModelSpec, SpecError, TableSpec, unknown

STAGES = ("embedding", "bottom_mlp", "interaction", "top_mlp", "loss", "optimizer")


class StageWork(msgspec.Struct, frozen=True, kw_only=True):
    """Work of one stage in one step (forward, plus backward in a train step). Bytes and FLOPs are totals.

    `working_set_bytes` is what the stage touches over and over across steps: the rows that the rotation of inputs
    touches, with their optimizer's state, for the embedding, weights and activations elsewhere. `bytes_kept`, of the
    embedding in a train step: the part of `bytes_compulsory` that stays in a cache which lasts from the forward to the
    backward pass.
    """

    flops: int = 0
    flops_useful: int = 0
    bytes_logical: int = 0
    bytes_algorithmic: int = 0
    bytes_compulsory: int = 0
    working_set_bytes: int = 0
    bytes_kept: int = 0


class TableTouch(msgspec.Struct, frozen=True, kw_only=True):
    """What the inputs do to one table: mean lookups and distinct rows per step, distinct rows over all inputs."""

    lookups: float
    unique_rows: float
    rotation_unique_rows: int


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Work of one step.

    `row_bytes` is the mean bytes of a row looked up, weighted by lookups; it selects the gather ceiling.
    """

    samples: int
    lookups: float
    row_bytes: float
    stages: dict[str, StageWork]

    def total(self, field: str) -> int:
        """Sum of one StageWork field over the stages."""
        return sum(int(getattr(stage, field)) for stage in self.stages.values())


LINE_BYTES = 64
INDEX_BYTES = 8
ROW_ELEMENT_BYTES = 4
PHASES = ("forward", "train_step")


class State(NamedTuple):
    """What an optimizer keeps per table row beside the row: so many float32 rows as wide as it, and single numbers."""

    rows: int = 0
    numbers: int = 0


STATE = {"sgd": State(), "rowwise_adagrad": State(numbers=1), "adam": State(rows=2)}
"""By optimizer of the tables, all of which touch the state of a step's distinct rows alone."""


def is_training(phase: str) -> bool:
    """Whether `phase` is the train step. Raises SpecError for an unknown phase."""
    if phase not in PHASES:
        raise SpecError("phase", phase, f"known: {', '.join(PHASES)}")
    return phase == "train_step"


def line_bytes(row_bytes: int) -> int:
    """Bytes of the cache lines that one aligned row fills."""
    return math.ceil(row_bytes / LINE_BYTES) * LINE_BYTES


def rows_line_bytes(table: TableSpec, rows: float) -> float:
    """Bytes of the cache lines that `rows` distinct rows fill: a line each where rows are wide, but never more than
    the whole table, of which a line holds several rows where they are narrow."""
    return min(rows * line_bytes(table.row_bytes), line_bytes(table.num_rows * table.row_bytes))


def with_index_bytes(work: Work, batch_size: int, num_tables: int, index_bytes: int) -> Work:
    """The same work with indices and offsets of `index_bytes` each instead of INDEX_BYTES."""
    stage = work.stages.get("embedding")
    if stage is None or index_bytes == INDEX_BYTES:
        return work
    saved = round((INDEX_BYTES - index_bytes) * (work.lookups + num_tables * (batch_size + 1)))
    smaller = msgspec.structs.replace(
        stage,
        bytes_algorithmic=stage.bytes_algorithmic - saved,
        bytes_compulsory=stage.bytes_compulsory - saved,
    )
    return msgspec.structs.replace(work, stages=work.stages | {"embedding": smaller})


def make_work(spec: ModelSpec, batch_size: int, touches: tuple[TableTouch, ...], stages: dict[str, StageWork]) -> Work:
    """Work from its stages, with lookups and mean row bytes of the embedding."""
    lookups = math.fsum(t.lookups for t in touches)
    looked_up = math.fsum(t.lookups * s.row_bytes for s, t in zip(spec.tables, touches, strict=True))
    return Work(samples=batch_size, lookups=lookups, row_bytes=looked_up / lookups if lookups else 0.0, stages=stages)


def embedding_work(
    tables: tuple[TableSpec, ...], batch_size: int, phase: str, touches: tuple[TableTouch, ...], optimizer: str = "sgd"
) -> StageWork:
    """Pooled lookups of all tables, and in a train step their gradient and update: SGD's FLOPs, `optimizer`'s bytes."""
    if len(touches) != len(tables):
        raise SpecError("touches", len(touches), f"one per table ({len(tables)})")
    state = _state_of(optimizer) if is_training(phase) else None
    parts = [_table_work(t, batch_size, state, touch) for t, touch in zip(tables, touches, strict=True)]
    return sum_stages(parts)


def _state_of(optimizer: str) -> State:
    if optimizer not in STATE:
        raise unknown("optimizer", optimizer, list(STATE))
    return STATE[optimizer]


def _table_work(table: TableSpec, batch_size: int, state: State | None, touch: TableTouch) -> StageWork:
    """`state` is what the optimizer keeps of the table; None in a forward step, which has no update."""
    n, u, w = touch.lookups, touch.unique_rows, table.row_bytes
    lines = rows_line_bytes(table, u)
    output = batch_size * table.pooled_bytes
    index = n * INDEX_BYTES + (batch_size + 1) * INDEX_BYTES + (n * ROW_ELEMENT_BYTES if table.weighted else 0)
    # One add per element of a row, a multiply too where weighted; a division per output element for a mean.
    flops = n * table.dim * (2 if table.weighted else 1) + (batch_size * table.dim if table.pooling == "mean" else 0)
    logical, algorithmic, compulsory, kept = n * w, n * w + output + index, lines + output + index, 0.0
    working_set = rows_line_bytes(table, touch.rotation_unique_rows)
    if state is not None:
        # Gradients are added up per distinct row (n*D), then row -= rate * gradient (2*u*D).
        flops += n * table.dim * (2 if table.weighted else 1) + 2 * u * table.dim
        logical += n * w + u * 2 * w
        algorithmic += output + u * 2 * w
        compulsory += output + 2 * lines
        # The second read of the rows; pooled rows, which the next stage takes up; their gradient, which it leaves.
        kept = lines + 2 * output
        # State of each distinct row, read and written: moments as wide as the row, single numbers as they are.
        logical += 2 * u * (state.rows * w + state.numbers * ROW_ELEMENT_BYTES)
        algorithmic += 2 * u * (state.rows * w + state.numbers * ROW_ELEMENT_BYTES)
        compulsory += 2 * (state.rows * lines + state.numbers * u * ROW_ELEMENT_BYTES)
        working_set += state.rows * working_set + state.numbers * touch.rotation_unique_rows * ROW_ELEMENT_BYTES
    return StageWork(
        flops=round(flops),
        flops_useful=round(flops),
        bytes_logical=round(logical),
        bytes_algorithmic=round(algorithmic),
        bytes_compulsory=round(compulsory),
        working_set_bytes=round(working_set),
        bytes_kept=round(kept),
    )


def mlp_work(
    widths: tuple[int, ...], batch_size: int, phase: str, dense_bytes: int, *, input_gradient: bool
) -> StageWork:
    """Linear layers widths[0] -> widths[1] -> ...: 2*m*n FLOPs per sample and layer; bias and ReLU not counted.

    Backward costs the weight gradient and the input gradient, each 2*m*n again; the first layer has no input
    gradient where `input_gradient` is false (its input is data).
    """
    layers = list(pairwise(widths))
    macs = sum(m * n for m, n in layers)
    weights = sum(m * n + n for m, n in layers)
    rows = sum(batch_size * (m + n) for m, n in layers)
    ends = batch_size * (widths[0] + widths[-1])
    flops, algorithmic, compulsory = 2 * batch_size * macs, weights + rows, weights + ends
    if is_training(phase):
        skipped = 0 if input_gradient else layers[0][0] * layers[0][1]
        flops += 2 * batch_size * (2 * macs - skipped)
        # Weight gradient: reads input and output gradient, writes weights; input gradient: reads weights and output
        # gradient, writes the input's.
        algorithmic += 2 * (weights + rows) - (0 if input_gradient else skipped + batch_size * sum(layers[0]))
        compulsory += 2 * weights + ends
    return StageWork(
        flops=flops,
        flops_useful=flops,
        bytes_logical=algorithmic * dense_bytes,
        bytes_algorithmic=algorithmic * dense_bytes,
        bytes_compulsory=compulsory * dense_bytes,
        working_set_bytes=(weights + batch_size * sum(widths)) * dense_bytes,
    )


def dot_work(
    num_vectors: int, dim: int, num_pairs: int, width_out: int, *, batch_size: int, phase: str, dense_bytes: int
) -> StageWork:
    """All pairs of F vectors by one F x F product per sample, of which `num_pairs` are kept; `width_out` goes on.

    Backward is two such products (one per operand).
    """
    times = 3 if is_training(phase) else 1
    vectors, products = num_vectors * dim, num_vectors * num_vectors
    # Concatenate (read, write), both operands read, product written, pairs read, output written.
    algorithmic = batch_size * (2 * vectors + 2 * vectors + products + num_pairs + width_out)
    compulsory = batch_size * (vectors + width_out)
    passes = 2 if is_training(phase) else 1
    return StageWork(
        flops=times * 2 * batch_size * products * dim,
        flops_useful=times * 2 * batch_size * num_pairs * dim,
        bytes_logical=times * algorithmic * dense_bytes,
        bytes_algorithmic=times * algorithmic * dense_bytes,
        bytes_compulsory=passes * compulsory * dense_bytes,
        working_set_bytes=batch_size * (2 * vectors + products + width_out) * dense_bytes,
    )


def product_work(
    *,
    flops: int,
    parameters: int,
    elements: int,
    ends: int,
    batch_size: int,
    phase: str,
    dense_bytes: int,
    backward_flops: int | None = None,
) -> StageWork:
    """A stage of `flops` and `elements` moved per sample over `parameters` weights; `ends` is its input and output.

    Backward costs a weight gradient and an input gradient, each as much again. Elementwise products beside matrix
    products are not counted as FLOPs, their operands are as elements. `backward_flops`, per sample, is of a term that
    has no weights: backward then gives the input gradient alone, with so many FLOPs, and moves the elements once more.
    """
    times, passes, counted = 1, 1, batch_size * flops
    if is_training(phase):
        times, passes = 3 if backward_flops is None else 2, 2
        counted += batch_size * (2 * flops if backward_flops is None else backward_flops)
    algorithmic = times * (parameters + batch_size * elements)
    compulsory = times * parameters + passes * batch_size * ends
    return StageWork(
        flops=counted,
        flops_useful=counted,
        bytes_logical=algorithmic * dense_bytes,
        bytes_algorithmic=algorithmic * dense_bytes,
        bytes_compulsory=compulsory * dense_bytes,
        working_set_bytes=(parameters + batch_size * elements) * dense_bytes,
    )


def cat_work(width: int, batch_size: int, phase: str, dense_bytes: int) -> StageWork:
    """Concatenation to (B, width): each element read and written once, per direction; no FLOPs."""
    moved = (2 if is_training(phase) else 1) * 2 * batch_size * width * dense_bytes
    return StageWork(
        bytes_logical=moved,
        bytes_algorithmic=moved,
        bytes_compulsory=moved,
        working_set_bytes=2 * batch_size * width * dense_bytes,
    )


def loss_work(batch_size: int) -> StageWork:
    """Binary cross-entropy on fp32 logits: logit and label read, gradient written; its FLOPs are not counted."""
    moved = 3 * 4 * batch_size
    return StageWork(bytes_logical=moved, bytes_algorithmic=moved, bytes_compulsory=moved, working_set_bytes=moved)


def optimizer_work(parameters: int, dense_bytes: int) -> StageWork:
    """SGD on the dense parameters: parameter and gradient read, parameter written; a multiply and an add each."""
    moved = 3 * parameters * dense_bytes
    return StageWork(
        flops=2 * parameters,
        flops_useful=2 * parameters,
        bytes_logical=moved,
        bytes_algorithmic=moved,
        bytes_compulsory=moved,
        working_set_bytes=2 * parameters * dense_bytes,
    )


def sum_stages(parts: list[StageWork]) -> StageWork:
    """Field by field."""
    return StageWork(**{f: sum(int(getattr(p, f)) for p in parts) for f in StageWork.__struct_fields__})
