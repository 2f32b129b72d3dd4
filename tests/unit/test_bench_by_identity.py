"""Results are remembered while what they are of lives, and no longer."""

from __future__ import annotations

import gc
import weakref

import msgspec

from bench import metrics
from bench.by_identity import by_identity
from tests import sample_records


class Thing(msgspec.Struct, frozen=True, weakref=True):
    number: int


def test_the_same_object_is_asked_once_and_an_equal_one_again() -> None:
    asked = []

    @by_identity
    def twice(thing: Thing) -> int:
        asked.append(thing.number)
        return 2 * thing.number

    one, equal = Thing(3), Thing(3)
    assert [twice(one), twice(one), twice(equal)] == [6, 6, 6]
    assert asked == [3, 3]


def test_nothing_is_kept_alive_and_no_later_object_takes_its_place() -> None:
    @by_identity
    def number(thing: Thing) -> int:
        return thing.number

    found = [number(Thing(n)) for n in range(1000)]  # each may lie where the one before it lay
    assert found == list(range(1000))
    kept = Thing(7)
    seen = weakref.ref(kept)
    assert number(kept) == 7
    del kept
    gc.collect()
    assert seen() is None


def test_no_median_is_remembered_too_long() -> None:
    records = [sample_records.record(case) for case in sample_records.scaling_cases()]
    for record in records:
        copy = msgspec.structs.replace(record, measurement=None)
        assert metrics.step_s(record)
        assert metrics.step_s(copy) is None
