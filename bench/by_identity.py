"""Results of a function of frozen data, remembered by the identity of that data for as long as it lives. Pure.

A report asks for the same median, axes and roofs of a record many times over; hashing a record costs more than most of
what is asked of it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

Asked = ParamSpec("Asked")
Found = TypeVar("Found")
Key = tuple[int, ...]


def by_identity(function: Callable[Asked, Found]) -> Callable[Asked, Found]:
    """`function`, which is given frozen objects by position that can be referred to weakly (`weakref=True`).

    A result is forgotten with the first of its arguments; nobody may change it.
    """
    known: dict[Key, tuple[Found, list[weakref.ref[Any]]]] = {}

    def forget(key: Key, _: object) -> None:
        known.pop(key, None)

    @wraps(function)
    def remembered(*args: Asked.args, **kwargs: Asked.kwargs) -> Found:
        key = tuple(map(id, args))
        if key in known:
            return known[key][0]
        found = function(*args, **kwargs)
        known[key] = found, [weakref.ref(arg, partial(forget, key)) for arg in args]
        return found

    return remembered
