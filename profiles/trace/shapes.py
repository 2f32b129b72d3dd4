"""One call of an operator as recorded: shapes, types and values of its arguments, and the work that comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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


class Call(NamedTuple):
    """What was recorded of a call: a shape and a type per argument, and values where there are any."""

    dims: Dims
    types: Sequence[str]
    values: Sequence[Any]

    def size(self, at: int) -> int | None:
        """Bytes of an element of an argument."""
        return SIZES.get(self.types[at].split("<")[0].strip()) if at < len(self.types) else None

    def dtype(self, at: int) -> str:
        """The argument's type by torch's name."""
        return DTYPES.get(self.types[at], self.types[at]) if at < len(self.types) else "unknown"

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
DTYPES = {"float": "float32", "double": "float64", "c10::Half": "float16", "c10::BFloat16": "bfloat16"}


def is_tensor(dims: Any) -> bool:
    """Whether the recorded shape is that of a tensor of at least one dimension."""
    return isinstance(dims, list) and all(isinstance(n, int) for n in dims) and bool(dims)
