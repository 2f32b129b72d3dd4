"""FLOPs and bytes of one call of an operator, from recorded shapes. What is unknown is None, never guessed.

Conventions (docs/method/components.md): a multiply-add is 2 FLOPs. `algorithmic` bytes: every tensor named by the
shapes is read or written once. `logical` bytes: every lookup reads its row, also where rows repeat, since a trace does
not tell how many rows are distinct. `message` bytes: the larger side of a collective on one rank.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from profiles.trace.columns import Collective, Inputs
from profiles.trace.lookupwork import embedding, embedding_bag, tbe, tbe_backward
from profiles.trace.shapes import MESSAGE, SIZES, Call, OpWork, is_tensor


def op_work(name: str, inputs: Inputs) -> OpWork | None:
    """The work of one call, None where the operator or what it needs of the shapes is not known."""
    formula = _formula(name)
    if formula is None or not isinstance(inputs.dims, list) or not isinstance(inputs.types, list):
        return None
    types = [t if isinstance(t, str) else "" for t in inputs.types]
    values = inputs.concrete if isinstance(inputs.concrete, list) else ()
    try:
        return formula(Call(inputs.dims, types, values))
    except (IndexError, TypeError, ValueError):
        return None


_NCCL_SIZES = {
    "byte": 1, "char": 1, "bool": 1, "short": 2, "half": 2, "bfloat16": 2, "int": 4, "float": 4, "long": 8, "double": 8,
}  # fmt: skip


def message_work(said: Collective) -> OpWork | None:
    """Of what a collective wrote of itself; None where it sent nothing (a wait) or the type is not known."""
    size = _NCCL_SIZES.get((said.dtype or "").lower())
    elements = max(said.in_elements or 0, said.out_elements or 0)
    return OpWork(0.0, float(elements * size), MESSAGE, said.dtype or "unknown") if size and elements else None


def _formula(name: str) -> Callable[[Call], OpWork | None] | None:
    if _BACKWARD.search(name):
        return lambda call: tbe_backward(name, call)
    return _FORMULAS.get(name.removesuffix("_")) or next((f for p, f in _FAMILIES if p.search(name)), None)


def _product(call: Call, a: Sequence[int], b: Sequence[int], at: int, extra: float = 0.0) -> OpWork | None:
    """(..., m, k) times (..., k, n); `extra` elements are read besides."""
    size, (m, k), n = call.size(at), a[-2:], b[-1]
    if size is None or b[-2] != k or list(a[:-2]) != list(b[:-2]):
        return None
    batch = prod(a[:-2])
    moved = batch * (m * k + k * n + m * n) + extra
    return OpWork(2.0 * batch * m * k * n, moved * size, dtype=call.dtype(at))


def _mm(call: Call) -> OpWork | None:
    return _product(call, call.dims[0], call.dims[1], 0)


def _addmm(call: Call) -> OpWork | None:
    return _product(call, call.dims[1], call.dims[2], 1, prod(call.dims[0]))


def _linear(call: Call) -> OpWork | None:
    x, weight = call.dims[0], call.dims[1]
    bias = prod(call.dims[2]) if len(call.dims) > 2 and call.dims[2] else 0
    return _product(call, [prod(x[:-1]), x[-1]], [weight[1], weight[0]], 0, bias) if len(weight) == 2 else None


def _copied(call: Call) -> OpWork | None:
    """copy_(destination, source): one is written, the other read, each in its own type."""
    to, source = call.dims[0], call.dims[1]
    written, read = call.size(0), call.size(1)
    if not is_tensor(to) or written is None or read is None:
        return None
    return OpWork(0.0, float(prod(to) * written + prod(source) * read), dtype=call.dtype(0))


def _elementwise(call: Call, flops: float) -> OpWork | None:
    tensors = [(prod(d), call.size(at)) for at, d in enumerate(call.dims) if is_tensor(d) and call.size(at)]
    unsized = [at for at, d in enumerate(call.dims) if is_tensor(d) and d and call.size(at) is None]
    if not tensors or unsized:
        return None
    elements, size = max((n, s or 0) for n, s in tensors)
    moved = sum(n * (s or 0) for n, s in tensors if n > 1) + elements * size
    return OpWork(flops * elements, moved, dtype=call.dtype(0))


def _pointwise(flops: float) -> Callable[[Call], OpWork | None]:
    return lambda call: _elementwise(call, flops)


def _listed(call: Call, at: int) -> int:
    """Elements of a list of tensors. TypeError where only 'a list' was recorded."""
    shapes = call.dims[at]
    if not shapes or not all(isinstance(s, list) for s in shapes):
        raise TypeError("the list's shapes are not recorded")
    return sum(prod(s) for s in shapes)


def _list_size(call: Call, at: int) -> int:
    """Bytes of an element of a list's tensors; lists of newer traces name the type of each."""
    said: Any = call.types[at] if at < len(call.types) else ""
    found = SIZES.get(said)
    if found is None:
        raise TypeError(f"the element type of {said!r} is not recorded")
    return found


def _cat(call: Call) -> OpWork | None:
    return OpWork(0.0, 2.0 * _listed(call, 0) * _list_size(call, 0))


def _update(reads: int, writes: int, flops: float) -> Callable[[Call], OpWork | None]:
    """An optimizer over lists: tensors read and written per parameter, FLOPs per element."""

    def formula(call: Call) -> OpWork | None:
        elements = _listed(call, 0)
        return OpWork(flops * elements, (reads + writes) * elements * _list_size(call, 0))

    return formula


def _permute_ids(call: Call) -> OpWork | None:
    """permute (T,), lengths (T, B), values (n,): known where every feature goes through once."""
    order, lengths, values = call.dims[:3]
    sizes = [call.size(at) for at in range(3)]
    if None in sizes or len(lengths) != 2 or order[0] != lengths[0]:
        return None
    weights = prod(call.dims[3]) if len(call.dims) > 3 and call.dims[3] else 0
    weight_size = (call.size(3) or 0) if weights else 0
    moved = prod(lengths) * (sizes[1] or 0) + prod(values) * (sizes[2] or 0) + weights * weight_size
    return OpWork(0.0, 2.0 * moved + order[0] * (sizes[0] or 0))


def _permute_pooled(call: Call) -> OpWork | None:
    size = call.size(0)
    return OpWork(0.0, 2.0 * prod(call.dims[0]) * size) if size and len(call.dims[0]) == 2 else None


def _message(call: Call) -> OpWork | None:
    """alltoall_base_ and its kin: output and input tensors."""
    sides = [prod(d) * size for at, d in enumerate(call.dims[:2]) if is_tensor(d) and (size := call.size(at))]
    return OpWork(0.0, float(max(sides)), MESSAGE) if sides else None


_FORMULAS: dict[str, Callable[[Call], OpWork | None]] = {
    "aten::mm": _mm,
    "aten::bmm": _mm,
    "aten::addmm": _addmm,
    "aten::baddbmm": _addmm,
    "aten::linear": _linear,
    "aten::embedding": embedding,
    "aten::embedding_bag": embedding_bag,
    "aten::_embedding_bag": embedding_bag,
    "aten::_embedding_bag_forward_only": embedding_bag,
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
    "aten::copy": _copied,
}
_BACKWARD = re.compile(r"^fbgemm::split_embedding_backward_codegen_\w+_wrapper$")
_FAMILIES: tuple[tuple[re.Pattern[str], Callable[[Call], OpWork | None]], ...] = (
    (re.compile(r"^fbgemm::split_embedding_codegen_(lookup_\w+_function$|forward_\w+_wrapper$)"), tbe),
    (re.compile(r"^fbgemm::permute_(2D_)?sparse_(data|features)$"), _permute_ids),
    (re.compile(r"^fbgemm::permute_pooled_embs"), _permute_pooled),
)
