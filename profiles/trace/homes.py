"""Which rule decides for each host event, and the component that comes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from profiles.trace.columns import NONE, Int64, Trace
from profiles.trace.rules import ANNOTATED, OTHER, PREVIOUS, Rule, Rules
from profiles.trace.stacks import Frame, Stacks, nearest

Bools = NDArray[np.bool_]
PENDING = 1
"""The code of PREVIOUS: to be taken from what came before."""


class Places(msgspec.Struct, frozen=True):
    """What rules are matched with: the known annotation, the unknown one (names' codes), the ops (rule numbers)."""

    known: int
    unknown: int
    ops: frozenset[int]


NOWHERE = Places(NONE, NONE, frozenset())


class Book:
    """The rules of one trace, its names looked up."""

    def __init__(self, trace: Trace, rules: Rules) -> None:
        self._names = trace.names
        self.rules = [r for r in rules.rule if r.needs is None or _any(r.needs, trace.names)]
        self._transparent = [re.compile(p) for p in rules.transparent]
        self.annotated = cache(self._annotated)
        self.of_op = cache(self._of_op)
        self.of_kernel = cache(self._of_kernel)
        self.is_transparent = cache(self._is_transparent)

    def _matching(self, pattern_of: Callable[[Rule], str | None], code: int) -> frozenset[int]:
        name = self._names[code]
        return frozenset(at for at, r in enumerate(self.rules) if (p := pattern_of(r)) and re.search(p, name))

    def _annotated(self, code: int) -> frozenset[int]:
        return self._matching(lambda r: r.annotation, code)

    def _of_op(self, code: int) -> frozenset[int]:
        return self._matching(lambda r: r.op, code)

    def _of_kernel(self, code: int) -> frozenset[int]:
        return self._matching(lambda r: r.kernel, code)

    def is_whole(self, code: int) -> bool:
        """Whether the annotations inside this one say nothing more."""
        return code != NONE and any(self.rules[at].whole for at in self.annotated(code))

    def _is_transparent(self, code: int) -> bool:
        return any(p.search(self._names[code]) for p in self._transparent)

    def first(self, place: Places, kernel: int = NONE) -> int:
        """The number of the first rule that fits, their count where none does."""
        annotated = self.annotated(place.known) if place.known != NONE else frozenset()
        kernels = self.of_kernel(kernel) if kernel != NONE else frozenset()
        for at, rule in enumerate(self.rules):
            fits = (
                (rule.annotation is None or at in annotated)
                and (rule.op is None or at in place.ops)
                and (rule.kernel is None or at in kernels)
                and (rule.component != ANNOTATED or place.unknown != NONE)
            )
            if fits:
                return at
        return len(self.rules)

    def component(self, rule: int, place: Places) -> str:
        """What a rule says, PREVIOUS too."""
        if rule == len(self.rules):
            return OTHER
        said = self.rules[rule].component
        return self._names[place.unknown] if said == ANNOTATED else said


def _any(pattern: str, names: Iterable[str]) -> bool:
    found = re.compile(pattern)
    return any(found.search(name) for name in names)


class Homes:
    """Which rule decides for each host event, and the component that comes of it (a code into `names`)."""

    def __init__(self, found: Stacks, rules: Rules) -> None:
        self._stacks = found
        self.book = Book(found.trace, rules)
        self.none = len(self.book.rules)
        self.names: dict[str, int] = {OTHER: 0, PREVIOUS: 1}
        self._wrapping = self._wrappers()
        self.places = self._places()
        ruled = [self.book.first(place) for place in self.places]
        self.backward = self._backward(ruled)
        said = [self.code(self.book.component(r, p)) for r, p in zip(ruled, self.places, strict=True)]
        self.rule = np.array(ruled, np.int64)[found.chain] if ruled else np.zeros(0, np.int64)
        self.component = np.array(said, np.int64)[found.chain] if said else np.zeros(0, np.int64)
        self._follow_previous()
        self._follow_forward()

    def code(self, name: str) -> int:
        """The code of a component, new where it is."""
        return self.names.setdefault(name, len(self.names))

    def _backward(self, ruled: list[int]) -> Bools:
        """Per event, whether it is of the backward pass: a node is around it, or its rule says so."""
        found, rules = self._stacks, self.book.rules
        says = np.array([rule < self.none and rules[rule].backward for rule in ruled], bool)
        return found.backward | says[found.chain] if ruled else found.backward

    def _places(self) -> list[Places]:
        """Per chain, what rules are matched with. Annotations around a backward node say nothing about it."""
        book = self.book
        places: list[Places] = []
        for outer, name, frame in self._stacks.chains:
            place = places[outer] if outer != NONE else NOWHERE
            if frame == Frame.NODE:
                place = Places(NONE, NONE, place.ops | book.of_op(name))
            elif frame == Frame.OP:
                place = Places(place.known, place.unknown, place.ops | book.of_op(name))
            elif book.is_whole(place.known):
                pass
            elif book.annotated(name):
                place = Places(name, place.unknown, place.ops)
            elif not self._only_when(name):
                place = Places(place.known, name, place.ops)
            places.append(place)
        return places

    def _only_when(self, name: int) -> bool:
        """Whether annotations of this name say when, not what."""
        unruled = not self.book.annotated(name)
        return unruled and (name in self._wrapping or self.book.is_transparent(name))

    def only_when(self) -> Bools:
        """Per event, whether it is an annotation that says when, not what."""
        found = self._stacks
        marks = found.frame == Frame.ANNOTATION
        names = np.unique(found.trace.name[found.rows[marks]])
        says_when = names[np.array([self._only_when(name) for name in names.tolist()], bool)]
        only: Bools = marks & np.isin(found.trace.name[found.rows], says_when)
        return only

    def _wrappers(self) -> set[int]:
        """Annotations without a rule that somewhere enclose one with a rule, or a backward node: whole steps."""
        chains, book = self._stacks.chains, self.book
        found: set[int] = set()
        for chain in chains:
            if chain.frame != Frame.NODE and (chain.frame != Frame.ANNOTATION or not book.annotated(chain.name)):
                continue
            at = chain.outer
            while at != NONE:
                if chains[at].frame == Frame.ANNOTATION and not book.annotated(chains[at].name):
                    found.add(chains[at].name)
                at = chains[at].outer
        return found

    def _follow_previous(self) -> None:
        """PREVIOUS becomes the component decided last under the same annotation on the same thread."""
        found = self._stacks
        under = nearest(found.nesting.parents, found.frame == Frame.ANNOTATION)
        group = np.where(under == NONE, -2 - found.trace.lane[found.rows].astype(np.int64), under)
        decided = (self.rule < self.none) & (self.component != PENDING)
        self.component = fill(self.component, self.component == PENDING, decided, group)

    def _follow_forward(self) -> None:
        """Backward events take the rule of their forward op where it comes first."""
        forward = self._stacks.forward
        at = np.flatnonzero(forward != NONE)
        better = at[self.rule[forward[at]] <= self.rule[at]]
        self.component[better] = self.component[forward[better]]
        self.rule[better] = self.rule[forward[better]]


def fill(values: Int64, asking: Bools, giving: Bools, group: Int64) -> Int64:
    """Values where the asking ones have that of the latest giving one before them in their group; 0 where none is."""
    order = np.argsort(group, kind="stable")
    position = np.arange(len(values))
    sorted_group = group[order]
    first = (
        np.maximum.accumulate(np.where(np.append(True, np.diff(sorted_group) != 0), position, 0))
        if len(values)
        else position
    )
    latest = np.maximum.accumulate(np.where(giving[order], position, NONE)) if len(values) else position
    taken = np.where(latest >= first, values[order][latest], 0)
    filled = np.array(values)
    filled[order] = np.where(asking[order], taken, values[order])
    return filled
