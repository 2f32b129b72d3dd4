"""FLOPs and bytes of one call of an operator, from recorded shapes. What is unknown is None, never guessed.

Conventions (docs/method/components.md): a multiply-add is 2 FLOPs. `algorithmic` bytes: every tensor named by the
shapes is read or written once. `logical` bytes: every lookup reads its row, also where rows repeat, since a trace does
not tell how many rows are distinct. `message` bytes: the larger side of a collective on one rank.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

from profiles.trace.columns import Inputs

ALGORITHMIC, LOGICAL, MESSAGE = "algorithmic", "logical", "message"
Dims = list[Any]


class OpWork(NamedTuple):
    """Of one call. `row_bytes`, `table_bytes`: of a lookup's table, where the shapes tell. `dtype` by torch's name."""

    flops: float
    bytes: float
    convention: str = ALGORITHMIC
    dtype: str = "float32"
    row_bytes: int | None = None
    table_bytes: int | None = None


class _Call(NamedTuple):
    """What was recorded of a call: a shape and a type per argument, and values where there are any."""

    dims: Dims
    types: Sequence[str]
    values: Sequence[Any]

    def size(self, at: int) -> int | None:
        """Bytes of an element of an argument."""
        return SIZES.get(self.types[at].split("<")[0].strip()) if at < len(self.types) else None

    def dtype(self, at: int) -> str:
        """The argument's type by torch's name."""
        return _DTYPES.get(self.types[at], self.types[at]) if at < len(self.types) else "unknown"

    def value(self, at: int) -> int | None:
        """A recorded whole number."""
        try:
            return int(self.values[at])
        except (IndexError, TypeError, ValueError):
            return None


SIZES = {
    "float": 4, "double": 8, "c10::Half": 2, "c10::BFloat16": 2, "long": 8, "long int": 8, "long long": 8, "int": 4,
    "short": 2, "unsigned char": 1, "signed char": 1, "char": 1, "bool": 1, "c10::Float8_e4m3fn": 1,
    "c10::Float8_e5m2": 1,
}  # fmt: skip
_DTYPES = {"float": "float32", "double": "float64", "c10::Half": "float16", "c10::BFloat16": "bfloat16"}


def op_work(name: str, inputs: Inputs) -> OpWork | None:
    """The work of one call, None where the operator or what it needs of the shapes is not known."""
    formula = _formula(name)
    if formula is None or not isinstance(inputs.dims, list) or not isinstance(inputs.types, list):
        return None
    types = [t if isinstance(t, str) else "" for t in inputs.types]
    values = inputs.concrete if isinstance(inputs.concrete, list) else ()
    try:
        return formula(_Call(inputs.dims, types, values))
    except (IndexError, TypeError, ValueError):
        return None


def _formula(name: str) -> Callable[[_Call], OpWork | None] | None:
    if _BACKWARD.search(name):
        return lambda call: _tbe_backward(name, call)
    return _FORMULAS.get(name.removesuffix("_")) or next((f for p, f in _FAMILIES if p.search(name)), None)


def _product(call: _Call, a: Sequence[int], b: Sequence[int], at: int, extra: float = 0.0) -> OpWork | None:
    """(..., m, k) times (..., k, n); `extra` elements are read besides."""
    size, (m, k), n = call.size(at), a[-2:], b[-1]
    if size is None or b[-2] != k or list(a[:-2]) != list(b[:-2]):
        return None
    batch = prod(a[:-2])
    moved = batch * (m * k + k * n + m * n) + extra
    return OpWork(2.0 * batch * m * k * n, moved * size, dtype=call.dtype(at))


def _mm(call: _Call) -> OpWork | None:
    return _product(call, call.dims[0], call.dims[1], 0)


def _addmm(call: _Call) -> OpWork | None:
    return _product(call, call.dims[1], call.dims[2], 1, prod(call.dims[0]))


def _linear(call: _Call) -> OpWork | None:
    x, weight = call.dims[0], call.dims[1]
    bias = prod(call.dims[2]) if len(call.dims) > 2 and call.dims[2] else 0
    return _product(call, [prod(x[:-1]), x[-1]], [weight[1], weight[0]], 0, bias) if len(weight) == 2 else None


def _lookups(rows: int, dim: int, weight: int, bags: int, out: int, index_bytes: float, table: int | None) -> OpWork:
    return OpWork(
        float(rows * dim),
        rows * dim * weight + bags * dim * out + index_bytes,
        LOGICAL,
        row_bytes=dim * weight,
        table_bytes=table,
    )


def _embedding_bag(call: _Call) -> OpWork | None:
    (rows, dim), ids, offsets = call.dims[0], call.dims[1], call.dims[2]
    weight, index, offset = call.size(0), call.size(1), call.size(2) or call.size(1)
    if weight is None or index is None or offset is None or not ids:
        return None
    # A flag tells whether the last offset ends the last bag; where it was not recorded, it begins one.
    ends = call.values[7] in (True, "True") if len(call.values) > 7 else False
    bags = ids[0] if len(ids) == 2 else prod(offsets) - ends
    index_bytes = prod(ids) * index + (prod(offsets) * offset if offsets else 0)
    return _lookups(prod(ids), dim, weight, bags, weight, index_bytes, rows * dim * weight)


def _embedding(call: _Call) -> OpWork | None:
    (rows, dim), ids = call.dims[0], call.dims[1]
    weight, index = call.size(0), call.size(1)
    if weight is None or index is None:
        return None
    n = prod(ids)
    return _lookups(n, dim, weight, n, weight, n * index, rows * dim * weight)._replace(flops=0.0)


class _Batched(NamedTuple):
    """A table-batched lookup: tables, lookups, offsets; `scalars` are the values recorded between the dims' offsets."""

    tables: int
    lookups: int
    offsets: int
    scalars: tuple[int | None, int | None]
    index_bytes: int
    table_bytes: int


_LAYOUTS = ([1, 0, 0, 1, 0, 1, 1], [1, 0, 0, 1, 1, 1])


def _batched(call: _Call) -> _Batched | None:
    """Found by the order that all versions share: offsets of dims (T+1), two scalars, hash sizes (T+1), in some bits,
    then indices and offsets. None unless the stored rows are float32: no shape tells what else is read with them.
    """
    dims = call.dims
    stored = [prod(d) for at, d in enumerate(dims) if _flat(d) and call.types[at] == "float"]
    places = [(start, layout) for layout in _LAYOUTS for start in range(1, len(dims) - len(layout) + 1)]
    for at, layout in places:
        window = dims[at : at + len(layout)]
        if [len(d) if _is_tensor(d) else 0 if d == [] else -1 for d in window] != layout or window[0] != window[3]:
            continue
        tables, index = window[0][0] - 1, call.size(at + len(layout) - 2)
        if tables < 1 or index is None or not stored or max(stored) == 0:
            continue
        scalars = (call.value(at + 1), call.value(at + 2))
        return _Batched(tables, window[-2][0], window[-1][0], scalars, index, max(stored) * 4)
    return None


def _flat(dims: Any) -> bool:
    return _is_tensor(dims) and len(dims) == 1


def _tbe(call: _Call) -> OpWork | None:
    """Known where every table has one dim: total = tables x largest."""
    found = _batched(call)
    if found is None or found.scalars[0] is None or found.scalars[0] != found.tables * (found.scalars[1] or 0):
        return None
    dim, bags = found.scalars[0] // found.tables, found.offsets - 1
    index_bytes = (found.lookups + found.offsets) * found.index_bytes
    return _lookups(found.lookups, dim, 4, bags, 4, index_bytes, found.table_bytes)


_STATE_BYTES = {"sgd": 0, "rowwise_adagrad": 8}
"""Optimizer state that a lookup's row reads and writes beside itself."""


def _tbe_backward(name: str, call: _Call) -> OpWork | None:
    """Gradient (B, sum D) read once, and per lookup its row read and written."""
    found = _batched(call)
    optimizer = re.search(r"codegen_(\w+?)_(?:un)?weighted", name)
    state = _STATE_BYTES.get(optimizer[1]) if optimizer else None
    total = call.dims[0][1]
    if found is None or state is None or total != found.tables * (found.scalars[0] or 0):
        return None
    dim = total // found.tables
    moved = prod(call.dims[0]) * 4 + found.lookups * (2 * dim * 4 + state) + found.lookups * found.index_bytes
    return OpWork(2.0 * found.lookups * dim, moved, LOGICAL, "float32", dim * 4, found.table_bytes)


def _moved(call: _Call) -> OpWork | None:
    """Every element of every tensor is read, and as many written as the largest has."""
    return _elementwise(call, 0.0)


def _elementwise(call: _Call, flops: float) -> OpWork | None:
    tensors = [(prod(d), call.size(at)) for at, d in enumerate(call.dims) if _is_tensor(d) and call.size(at)]
    unsized = [at for at, d in enumerate(call.dims) if _is_tensor(d) and d and call.size(at) is None]
    if not tensors or unsized:
        return None
    elements, size = max((n, s or 0) for n, s in tensors)
    moved = sum(n * (s or 0) for n, s in tensors if n > 1) + elements * size
    return OpWork(flops * elements, moved, dtype=call.dtype(0))


def _is_tensor(dims: Any) -> bool:
    return isinstance(dims, list) and all(isinstance(n, int) for n in dims) and bool(dims)


def _pointwise(flops: float) -> Callable[[_Call], OpWork | None]:
    return lambda call: _elementwise(call, flops)


def _listed(call: _Call, at: int) -> int:
    """Elements of a list of tensors. TypeError where only 'a list' was recorded."""
    shapes = call.dims[at]
    if not shapes or not all(isinstance(s, list) for s in shapes):
        raise TypeError("the list's shapes are not recorded")
    return sum(prod(s) for s in shapes)


def _list_size(call: _Call, at: int) -> int:
    """Bytes of an element of a list's tensors; lists of newer traces name the type of each."""
    said: Any = call.types[at] if at < len(call.types) else ""
    found = SIZES.get(said)
    if found is None:
        raise TypeError(f"the element type of {said!r} is not recorded")
    return found


def _cat(call: _Call) -> OpWork | None:
    return OpWork(0.0, 2.0 * _listed(call, 0) * _list_size(call, 0))


def _update(reads: int, writes: int, flops: float) -> Callable[[_Call], OpWork | None]:
    """An optimizer over lists: tensors read and written per parameter, FLOPs per element."""

    def formula(call: _Call) -> OpWork | None:
        elements = _listed(call, 0)
        return OpWork(flops * elements, (reads + writes) * elements * _list_size(call, 0))

    return formula


def _permute_ids(call: _Call) -> OpWork | None:
    """permute (T,), lengths (T, B), values (n,): known where every feature goes through once."""
    order, lengths, values = call.dims[:3]
    sizes = [call.size(at) for at in range(3)]
    if None in sizes or len(lengths) != 2 or order[0] != lengths[0]:
        return None
    weights = prod(call.dims[3]) if len(call.dims) > 3 and call.dims[3] else 0
    weight_size = (call.size(3) or 0) if weights else 0
    moved = prod(lengths) * (sizes[1] or 0) + prod(values) * (sizes[2] or 0) + weights * weight_size
    return OpWork(0.0, 2.0 * moved + order[0] * (sizes[0] or 0))


def _permute_pooled(call: _Call) -> OpWork | None:
    size = call.size(0)
    return OpWork(0.0, 2.0 * prod(call.dims[0]) * size) if size and len(call.dims[0]) == 2 else None


def _message(call: _Call) -> OpWork | None:
    """alltoall_base_ and its kin: output and input tensors."""
    sides = [prod(d) * size for at, d in enumerate(call.dims[:2]) if _is_tensor(d) and (size := call.size(at))]
    return OpWork(0.0, float(max(sides)), MESSAGE) if sides else None


_ONE_FLOP = ("add", "sub", "mul", "div", "relu", "clamp_min", "threshold_backward", "sqrt", "neg")
_FORMULAS: dict[str, Callable[[_Call], OpWork | None]] = {
    "aten::mm": _mm,
    "aten::bmm": _mm,
    "aten::addmm": _addmm,
    "aten::baddbmm": _addmm,
    "aten::linear": _linear,
    "aten::embedding": _embedding,
    "aten::embedding_bag": _embedding_bag,
    "aten::_embedding_bag": _embedding_bag,
    "aten::_embedding_bag_forward_only": _embedding_bag,
    "aten::cat": _cat,
    "aten::_foreach_add": _update(2, 1, 2),
    "aten::_fused_sgd": _update(2, 1, 2),
    "aten::_fused_adagrad": _update(3, 2, 6),
    "aten::_fused_adam": _update(4, 3, 12),
    "aten::_fused_adamw": _update(4, 3, 14),
    "c10d::alltoall_base": _message,
    "c10d::_allgather_base": _message,
    "c10d::_reduce_scatter_base": _message,
    **{
        f"aten::{name}": _pointwise(1)
        for name in ("add", "sub", "mul", "div", "relu", "clamp_min", "threshold_backward")
    },
    **{f"aten::{name}": _pointwise(3) for name in ("addcmul", "addcdiv")},
    "aten::copy": _moved,
}
_BACKWARD = re.compile(r"^fbgemm::split_embedding_backward_codegen_\w+_wrapper$")
_FAMILIES: tuple[tuple[re.Pattern[str], Callable[[_Call], OpWork | None]], ...] = (
    (re.compile(r"^fbgemm::split_embedding_codegen_(lookup_\w+_function$|forward_\w+_wrapper$)"), _tbe),
    (re.compile(r"^fbgemm::permute_(2D_)?sparse_(data|features)$"), _permute_ids),
    (re.compile(r"^fbgemm::permute_pooled_embs"), _permute_pooled),
)
