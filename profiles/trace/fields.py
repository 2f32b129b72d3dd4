"""Fields of decoded events to numbers and structs: writers disagree about types, the columns do not."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from profiles.trace.columns import NONE, Collective, Int64, Ints, Process
from profiles.trace.decode import ANY, DAMAGE, NO_ARGS, RawArgs, RawEvent, Word

Key = TypeVar("Key", bound=Hashable)


class Interned(dict[Key, int], Generic[Key]):
    """Codes by order of first use: `self[key]` answers the code, a new one for a new key."""

    def __missing__(self, key: Key) -> int:
        code = self[key] = len(self)
        return code


def whole(value: Word) -> int:
    """A number where there is one, else NONE; writers put text or null in its place."""
    try:
        found = int(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return NONE
    return found if abs(found) < 2**63 else NONE


def whole_column(values: list[Word]) -> Int64:
    """`whole` of each; fast where all are numbers."""
    try:
        return np.array(values, np.int64)
    except (TypeError, ValueError, OverflowError):
        return np.array([NONE if v is None else whole(v) for v in values], np.int64)


def process(value: Word) -> Process:
    """A pid or tid: numbers written as text become numbers, the rest stays text."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else value
    found = whole(value)
    return found if found != NONE or value == NONE else str(value)


def narrow(column: Int64) -> Ints:
    """The same numbers in the narrowest type that holds them."""
    if not len(column):
        return column.astype(np.int8)
    low, high = int(column.min()), int(column.max())
    for kind in (np.int8, np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return column.astype(kind)
    return column


def number(value: Word) -> float:
    """A float where there is one, else NaN."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def arguments(rows: Sequence[RawEvent], wanted: NDArray[np.bool_]) -> tuple[Int64, list[RawArgs]]:
    """(positions, arguments) of the wanted events."""
    where = np.flatnonzero(wanted)
    return where, [rows[at].args or NO_ARGS for at in where.tolist()]


def external(args: RawArgs) -> Word:
    """The id that ties host and device events of one op together."""
    return args.external if args.external is not None else args.external_lower


def stream(said: Word, tid: Word) -> int:
    """The argument, or else the lane: a number, or 'stream 7' in traces of 2021."""
    found = whole(said)
    if found == NONE and isinstance(tid, str):
        return whole(tid.removeprefix("stream "))
    return found if found != NONE else whole(tid)


def collective(args: RawArgs) -> Collective:
    """What the arguments say of a collective."""
    return Collective(
        name=_word(args.collective),
        dtype=_word(args.dtype),
        in_elements=_count(args.in_elements),
        out_elements=_count(args.out_elements),
        group_size=_count(args.group_size),
        group=_word(args.group),
    )


def _word(said: Word) -> str | None:
    return None if said is None else str(said)


def _count(said: Word) -> int | None:
    found = whole(said)
    return None if found == NONE else found


def value(text: bytes) -> Any:
    """A JSON value, None where it is damaged."""
    try:
        return ANY.decode(text)
    except DAMAGE:
        return None
